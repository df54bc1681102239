"""Which store a request gets, with whose account."""

from collections.abc import Awaitable, Callable, Mapping

from torz.ports.store import Store
from torz.services.auth import Access

OpenStore = Callable[[Access], Awaitable[Store]]
"""Makes a store's adapter for one account."""


class Stores:
    def __init__(self, openers: Mapping[str, OpenStore]) -> None:
        self._openers = dict(openers)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._openers)

    async def open(self, access: Access) -> Store:
        """The store of a checked access. May raise Unauthorized, where the store knows its tokens at once."""
        return await self._openers[access.store](access)
