"""The stores there are: one row each, and no other list of them."""

from typing import Final, NamedTuple


class Row(NamedTuple):
    name: str
    """What the header X-StremThru-Store-Name says."""
    code: str
    """What files say in `source`."""
    adapter: str
    """Module and class; imported when the store is first used."""
    token: str
    """What its users send as the store token."""
    verified: str | None
    """The day a person last ran the suite on a real account; None for never."""


STORES: Final = (
    Row("torz", "tz", "torz.stores.embedded:Embedded", "base64 of a `user:password` of this server", "2026-11-24"),
)
