"""Downloading what a direct link leads to: several parts at once, and going on where it stopped."""

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec

from torz.domain.errors import StoreBroken, StoreUnavailable
from torz.wire import errors

PART = 8 << 20
"""Bytes that are asked for at once."""
_TRIES = 5
"""A part is asked for so often, with growing pauses."""
_HOSTILE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\\u202a-\u202e\u2066-\u2069]')


class _Notes(msgspec.Struct):
    """What is kept beside an unfinished file."""

    etag: str
    size: int
    done: list[int] = []
    """Parts that are on disk."""


class Download:
    """One file on its way to one place. `done` and `size` are in bytes."""

    def __init__(self, session: aiohttp.ClientSession, url: str, path: Path) -> None:
        self._session = session
        self._url = url
        self._path = path
        self._partial = path.with_name(path.name + ".torz-part")
        self._notes_path = path.with_name(path.name + ".torz-notes")
        self._notes = _Notes("", 0)
        self.done = 0

    @property
    def size(self) -> int:
        return self._notes.size

    async def run(self, connections: int = 4, on_progress: Callable[[int, int], None] | None = None) -> Path:
        """Fetch the whole file and give it its name at the end.

        `on_progress` hears bytes done and bytes in all. Raises what the server says, and StoreUnavailable when it
        cannot be reached; what is there by then stays for the next time.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await self._begin()
        parts = [n for n in range(-(-self.size // PART)) if n not in self._notes.done]
        self.done = self.size - sum(min(PART, self.size - n * PART) for n in parts)
        fd = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(fd, self.size)
            queue = iter(parts)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(connections, max(1, len(parts)))):
                    group.create_task(self._work(fd, queue, on_progress))
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        finally:
            os.close(fd)
        self._partial.replace(self._path)
        self._notes_path.unlink(missing_ok=True)
        return self._path

    async def _begin(self) -> None:
        """Learn size and validator, and whether what is on disk belongs to the same file."""
        async with self._session.head(self._url) as answer:
            await _refuse_errors(answer)
            size, etag = int(answer.headers.get("Content-Length", "0")), answer.headers.get("ETag", "")
        try:
            kept = msgspec.json.decode(self._notes_path.read_bytes(), type=_Notes)
        except (OSError, msgspec.MsgspecError):
            kept = None
        is_same = kept and kept.etag == etag and etag and kept.size == size and self._partial.exists()
        self._notes = kept if kept and is_same else _Notes(etag, size)
        if not is_same:
            self._partial.unlink(missing_ok=True)

    async def _work(self, fd: int, parts: "object", on_progress: Callable[[int, int], None] | None) -> None:
        for part in parts:  # type: ignore[attr-defined]
            for attempt in range(_TRIES):
                try:
                    await self._fetch(fd, part, on_progress)
                    break
                except (aiohttp.ClientError, OSError, StoreUnavailable):
                    if attempt == _TRIES - 1:
                        raise
                    await asyncio.sleep(0.2 * 2**attempt)
            self._notes.done.append(part)
            self._notes_path.write_bytes(msgspec.json.encode(self._notes))

    async def _fetch(self, fd: int, part: int, on_progress: Callable[[int, int], None] | None) -> None:
        start = at = part * PART
        end = min(start + PART, self.size)
        headers = {"Range": f"bytes={start}-{end - 1}", **({"If-Range": self._notes.etag} if self._notes.etag else {})}
        try:
            async with self._session.get(
                self._url, headers=headers, timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
            ) as answer:
                await _refuse_errors(answer)
                if answer.status != 206 and (start or end != self.size):
                    raise StoreBroken("The file changed on the server while it was downloaded. Start it again.")
                async for data in answer.content.iter_any():
                    os.pwrite(fd, data, at)
                    at += len(data)
                    self.done += len(data)
                    if on_progress:
                        on_progress(self.done, self.size)
            if at != end:
                raise aiohttp.ClientPayloadError("the answer ended too soon")
        except BaseException:
            self.done -= at - start
            raise


async def download(
    session: aiohttp.ClientSession,
    url: str,
    path: Path,
    *,
    connections: int = 4,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetch what a direct link leads to into a file; see `Download.run`."""
    return await Download(session, url, path).run(connections, on_progress)


def safe_path(folder: Path, torrent_path: str) -> Path:
    """Where a file of a torrent goes below a folder, whatever its path claims to be."""
    parts = [_HOSTILE.sub("_", part).strip(". ") or "_" for part in torrent_path.split("/") if part not in ("", ".")]
    return folder.joinpath(*(part[:200] if part != ".." else "_" for part in parts or ["_"]))


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """One failure speaks for all parts, in our own words."""
    first = failures.exceptions[0]
    if isinstance(first, aiohttp.ClientError | OSError):
        return StoreUnavailable(f"The download broke off: {first or type(first).__name__}. Start it again to go on.")
    return first


async def _refuse_errors(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        after = answer.headers.get("Retry-After", "")
        raise errors.decode(answer.status, await answer.read(), int(after) if after.isdecimal() else None)
