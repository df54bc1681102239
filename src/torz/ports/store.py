"""What Torz needs of a place where torrents live."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import Check, Page, StoreUser, Torz


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do. Services read this, and never the store's name."""

    takes_torrent_file: bool = True
    """`add` takes the bytes of a .torrent, not only a magnet."""
    signs_links: bool = False
    """Links are served by this server, so `link` gives a path to be put behind our own address."""


class Store(Protocol):
    """One account at a place that fetches torrents and serves their files.

    A store translates. It keeps no policy of ours.
    Any method may raise StoreAuthFailed, StoreLimited, StoreUnavailable or StoreBroken.
    """

    features: Features

    async def user(self) -> StoreUser:
        """Whose account this is."""

    async def add(self, source: Magnet | Torrent) -> Torz:
        """Ask the store to fetch a torrent; adding it again returns the same torz.

        Raises Unsupported for a Torrent where `features` say so.
        """

    async def list(self, limit: int, offset: int) -> Page:
        """A slice of the account, newest first."""

    async def get(self, id: str) -> Torz:
        """One torz with its files. Raises TorzNotFound, also for a torz of somebody else's."""

    async def remove(self, id: str) -> None:
        """Take it off the account. Raises TorzNotFound."""

    async def check(self, hashes: Sequence[InfoHash]) -> Sequence[Check]:
        """What is known of these; a hash of which nothing is known is left out. Order as asked."""

    async def link(self, link: str, client_ip: str | None) -> str:
        """Turn a file's link into a direct link: a URL, or a path on this server where `features.signs_links`.

        Raises InvalidLink for a link of another shape, TorzNotFound for one that leads nowhere.
        """


@runtime_checkable
class ChecksEncoded(Protocol):
    """A store that keeps its check answers as ready JSON, for the hottest route there is."""

    def check_known(self, hashes: Sequence[str]) -> list[bytes] | None:
        """The items for these texts (any form), without waiting; None if some of it has to be looked up."""

    async def check_encoded(self, hashes: Sequence[str]) -> list[bytes]:
        """The same, looking up what is missing. Malformed texts are dropped, repeated ones answered once."""
