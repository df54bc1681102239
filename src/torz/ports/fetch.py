"""Fetching what a user's URL leads to."""

from typing import Protocol


class Fetcher(Protocol):
    async def get(self, url: str, max_size: int) -> bytes | str:
        """The body, or a magnet that the URL leads to. Raises FetchRefused with a hint that says why."""
