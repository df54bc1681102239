"""Downloading what a direct link leads to: several ranges at once, and going on where it stopped."""

import asyncio
import fcntl
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from torz.domain.byterange import ByteRange
from torz.domain.errors import StoreBroken, StoreUnavailable, TooManyRequests, Unavailable
from torz.wire import errors

T = TypeVar("T")
PART = 8 << 20
"""Bytes that are asked for at once."""
_TRIES = 5
"""How often in a row a part may bring nothing, with growing pauses."""
_RESTARTS = 3
"""How often the file may change on the server while it is downloaded."""
_LONGEST_PAUSE = 60.0
_BUFFER = 1 << 20
"""Bytes that are written at once, at most."""
_KEEP_EVERY = 1.0
"""Seconds after which what has arrived is noted down again."""
_LONGEST_NAME = 200
"""Bytes: 255 are allowed, and our own endings need some."""
_UNSAFE = re.compile(r'[<>:"|?*\\]')
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+)", re.ASCII)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
_PASSING = (StoreUnavailable, Unavailable, TooManyRequests, aiohttp.ClientError, TimeoutError, ConnectionError)
"""What another try may mend. A full disk is not among it."""

Progress = Callable[[int, int | None], None]
"""Hears bytes done, and bytes in all when they are known."""


class _Notes(msgspec.Struct):
    """What is kept beside an unfinished file."""

    etag: str
    """Strong, or empty: then nothing tells whether the file is still the same, and nothing is resumed."""
    size: int
    done: list[tuple[int, int]] = []
    """Ranges that are on disk, half-open."""


class _Changed(Exception):
    """The server has another file under this link than the one we have begun."""


class Download:
    """One file on its way to one place. `done` and `size` are in bytes.

    Until it is whole the bytes are in `<name>.torz-data`, and which of them are there in `<name>.torz-part`.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, path: Path, *, part: int = PART, pause: float = 0.2
    ) -> None:
        """`part` is in bytes that are asked for at once; `pause` in seconds, before the first repetition."""
        self._session = session
        self._url = url
        self._path = path
        self._data_path = path.with_name(path.name + ".torz-data")
        self._notes_path = path.with_name(path.name + ".torz-part")
        self._part = part
        self._pause = pause
        self._notes = _Notes("", 0)
        self._kept_at = 0.0
        self._keeping = threading.Lock()
        self._on_progress: Progress | None = None
        self.done = 0
        self.size: int | None = None

    async def run(self, connections: int = 4, on_progress: Progress | None = None) -> Path:
        """Fetch the whole file and give it its name at the end; a file of that name is replaced.

        Raises what the server says, StoreUnavailable when it cannot be reached, StoreBroken when the file keeps
        changing, and OSError for the disk. What is there by then stays for the next time.
        """
        self._on_progress = on_progress
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as fd:
            for _ in range(_RESTARTS):
                try:
                    await self._fetch_all(fd, connections)
                    break
                except _Changed:
                    self._notes = _Notes("", 0)
                    self._notes_path.unlink(missing_ok=True)
            else:
                raise StoreBroken("The file keeps changing on the server while it is downloaded.")
            await asyncio.to_thread(os.fsync, fd)
            self._data_path.replace(self._path)
            self._notes_path.unlink(missing_ok=True)
        return self._path

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The unfinished file, for us alone."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._data_path, flags, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(fd), self._data_path.stat()):
                raise BlockingIOError  # the other one finished and renamed it since we opened it
        except (BlockingIOError, FileNotFoundError) as exc:
            os.close(fd)
            raise StoreUnavailable(f"Another download writes {self._path}. Let it finish.") from exc
        try:
            yield fd
        finally:
            if not self._notes_path.exists():  # nothing of it can be used another time
                self._data_path.unlink(missing_ok=True)
            os.close(fd)

    async def _fetch_all(self, fd: int, connections: int) -> None:
        probe = await self._persist(self._probe)
        self.size = probe.size if probe else None
        if probe is None:
            await self._persist(partial(self._fetch_whole, fd))
            return
        self._resume(fd, probe)
        parts = list(_missing(self._notes.done, probe.size, self._part))
        self.done = probe.size - sum(part.size for part in parts)
        self._tell()
        queue = iter(parts)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(connections, len(parts))):
                    group.create_task(self._work(fd, queue))
        except BaseExceptionGroup as failures:
            raise _speaker(failures) from None
        finally:
            if self._notes.etag:
                with suppress(OSError):  # the failure that brought us here matters more
                    self._keep(fd)

    async def _probe(self) -> _Notes | None:
        """Size and validator by the file's first byte, which not every HEAD tells; None where ranges are not known."""
        async with self._get({"Range": "bytes=0-0"}) as answer:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status not in (206, 416) or found is None:
                return None
            tag = answer.headers.get("ETag", "")
            return _Notes("" if tag.startswith("W/") else tag, int(found[2]))

    def _resume(self, fd: int, probe: _Notes) -> None:
        """Go on with what is on disk if it belongs to the same file, else begin anew."""
        kept = probe
        with suppress(OSError, msgspec.MsgspecError):
            kept = msgspec.json.decode(self._notes_path.read_bytes(), type=_Notes)
        is_same = probe.etag and (kept.etag, kept.size) == (probe.etag, probe.size)
        if is_same and os.fstat(fd).st_size == probe.size:
            self._notes = kept
            kept.done = _merged([(start, end) for start, end in kept.done if 0 <= start < end <= probe.size])
        else:
            self._notes = probe
            os.ftruncate(fd, 0)
            os.ftruncate(fd, probe.size)

    async def _work(self, fd: int, parts: Iterator[ByteRange]) -> None:
        for part in parts:
            await self._persist(partial(self._fetch, fd, part), partial(self._reached, part))

    def _reached(self, part: ByteRange) -> int:
        """Up to where a part is there, without holes."""
        return next((min(end, part.end) for start, end in self._notes.done if start <= part.start < end), part.start)

    async def _fetch(self, fd: int, part: ByteRange) -> None:
        """Fetch what is left of a part. Raises _Changed for an answer about another file."""
        at = self._reached(part)
        etag = self._notes.etag
        headers = {"Range": f"bytes={at}-{part.end - 1}", **({"If-Range": etag} if etag else {})}
        async with self._get(headers) as answer:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status != 206 or found is None or int(found[2]) != self._notes.size:
                raise _Changed
            if etag and answer.headers.get("ETag", etag) != etag:
                raise _Changed
            if found[1] is None or int(found[1]) != at:
                raise StoreBroken("The server sends another range than it was asked for.")
            async for data in answer.content.iter_any():
                data = data[: part.end - at]
                await asyncio.to_thread(_write, fd, data, at)
                await self._arrived(fd, at, at + len(data))
                at += len(data)
        if at < part.end:
            raise aiohttp.ClientPayloadError("the answer ended too soon")

    async def _fetch_whole(self, fd: int) -> None:
        """From a server that knows no ranges: all of it in one go, and nothing to resume."""
        async with self._get({}) as answer:
            if answer.status != 200:
                raise StoreBroken(f"The server answered {answer.status} where the whole file was asked for.")
            os.ftruncate(fd, 0)
            self.done, self.size = 0, answer.content_length
            async for data in answer.content.iter_any():
                await asyncio.to_thread(_write, fd, data, self.done)
                self.done += len(data)
                self._tell()

    @asynccontextmanager
    async def _get(self, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        # What is packed on the way has other ranges than the file.
        headers = {**headers, "Accept-Encoding": "identity"}
        async with self._session.get(self._url, headers=headers, timeout=_TIMEOUT, read_bufsize=_BUFFER) as answer:
            if answer.status >= 400 and answer.status != 416:
                raise errors.decode(answer.status, await answer.read(), retry_after(answer))
            yield answer

    async def _persist(self, work: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0) -> T:
        """Do it again after what may pass, as long as there is progress every few times."""
        before, failed = progress(), 0
        while True:
            try:
                return await work()
            except _PASSING as exc:
                failed = failed + 1 if progress() == before else 1
                before = progress()
                if failed == _TRIES:
                    raise _in_our_words(exc) from exc
                wanted = getattr(exc, "retry_after", None) or self._pause * 2 ** (failed - 1)
                await asyncio.sleep(min(wanted, _LONGEST_PAUSE))

    async def _arrived(self, fd: int, start: int, end: int) -> None:
        self._notes.done = _merged([*self._notes.done, (start, end)])
        self.done += end - start
        self._tell()
        if self._notes.etag and time.monotonic() > self._kept_at + _KEEP_EVERY:
            self._kept_at = time.monotonic()
            await asyncio.to_thread(self._keep, fd)

    def _keep(self, fd: int) -> None:
        """Note down what is there, once it is on the disk indeed."""
        with self._keeping:
            noted = msgspec.json.encode(self._notes)
            os.fdatasync(fd)
            fresh = self._notes_path.with_name(self._notes_path.name + "~")
            fresh.write_bytes(noted)
            fresh.replace(self._notes_path)

    def _tell(self) -> None:
        if self._on_progress:
            self._on_progress(self.done, self.size)


async def download(
    session: aiohttp.ClientSession,
    url: str,
    path: Path,
    *,
    connections: int = 4,
    on_progress: Progress | None = None,
) -> Path:
    """Fetch what a direct link leads to into a file; see `Download.run`."""
    return await Download(session, url, path).run(connections, on_progress)


def safe_path(folder: Path, torrent_path: str) -> Path:
    """Where a file of a torrent goes below a folder, whatever its path claims to be."""
    parts = [_safe_name(part) for part in torrent_path.split("/") if part not in ("", ".")]
    return folder.joinpath(*(parts or ["_"]))


def destinations(folder: Path, torrent_paths: Sequence[str]) -> list[Path]:
    """Where each file of a torrent goes: different files to different places, in any file system."""
    wanted = [safe_path(folder, path) for path in torrent_paths]
    taken = {_key(parent) for path in wanted for parent in path.parents}
    counts: dict[str, int] = {}
    found = []
    for path in wanted:
        place = path
        while _key(place) in taken:
            counts[_key(path)] = number = counts.get(_key(path), 1) + 1
            place = path.with_name(f"{path.stem} ({number}){path.suffix}")
        taken.add(_key(place))
        found.append(place)
    return found


def _key(path: Path) -> str:
    return str(path).casefold()


def _safe_name(name: str) -> str:
    name = "".join(char if char.isprintable() else "_" for char in _UNSAFE.sub("_", name))
    name = name.strip(". ") or "_"
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > 20:
        stem, dot, ending = name, "", ""
    room = _LONGEST_NAME - len((dot + ending).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending


def _missing(done: Iterable[tuple[int, int]], size: int, part: int) -> Iterator[ByteRange]:
    """What is left to fetch, cut into parts."""
    at = 0
    for start, end in [*done, (size, size)]:
        while at < start:
            yield ByteRange(at, min(at + part, start))
            at = min(at + part, start)
        at = max(at, end)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _write(fd: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written


def _speaker(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """One failure speaks for all parts: that the file is another one before anything else."""
    return next((one for one in failures.exceptions if isinstance(one, _Changed)), failures.exceptions[0])


def _in_our_words(exc: Exception) -> Exception:
    if isinstance(exc, aiohttp.ClientError | OSError):
        return StoreUnavailable(f"The download broke off: {exc or type(exc).__name__}. Start it again to go on.")
    return exc


def retry_after(answer: aiohttp.ClientResponse) -> int | None:
    after = answer.headers.get("Retry-After", "")
    return int(after) if after.isdecimal() else None
