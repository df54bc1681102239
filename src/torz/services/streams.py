"""A direct link and a range → bytes of a file, also while it is still being downloaded.

The bytes themselves never pass through here: a stream says which part of an open file may be sent by the kernel.
"""

import asyncio
import itertools
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from torz.domain.byterange import ByteRange, pieces_of
from torz.domain.directlink import DirectLink
from torz.domain.errors import LinkGone, TorzNotFound, Unavailable
from torz.domain.torz import File, TorzStatus, from_unix
from torz.ports.clock import Clock
from torz.ports.node import Durable, Event, Lost, NodeLink, PieceMap, Read, Unread, Unwatch, Watch
from torz.ports.repo import HeldTorz, Place, TorzRepo, decode_files

T = TypeVar("T")
WINDOW = 1 << 20
"""Bytes that are sent at once of a growing file."""
_KEPT = 4096
"""Files whose facts are remembered."""
_RETRY = 0.25
"""Seconds between questions to a node that cannot answer yet."""
_COURTESY = 1.0
"""Seconds that a node has to say that it heard us. It is told at once, so one that hangs holds nobody up."""


class Pieces:
    """Which pieces of a torrent can be read from its files now, as the node keeps telling."""

    def __init__(self, hash: bytes, node: NodeLink) -> None:
        self.hash = hash
        self.readers = 0
        self._node = node
        self._map: PieceMap | None = None
        self._bits = bytearray()
        self._changed = asyncio.Event()
        self._asking = asyncio.Lock()

    async def ask(self) -> None:
        """Learn where it stands, unless that is known. Raises Unavailable while the node cannot say."""
        async with self._asking:
            if self._map is None:
                self._set(await self._node.call(Watch(self.hash)))

    def _set(self, map: PieceMap | None) -> None:
        if map is None:
            raise Unavailable("the engine does not know this torrent yet", retry_after=2)
        self._map = map
        self._bits = bytearray(map.bits)
        self._wake()

    def has(self, piece: int) -> bool:
        return bool(self._map and self._bits[piece >> 3] & (0x80 >> (piece & 7)))

    def forget(self) -> None:
        """What was known is no longer true."""
        self._map = None
        self._wake()

    def hear(self, pieces: list[int]) -> None:
        if self._map:
            for piece in pieces:
                self._bits[piece >> 3] |= 0x80 >> (piece & 7)
            self._wake()

    @property
    def is_known(self) -> bool:
        return self._map is not None

    async def change(self, timeout: float) -> None:
        """Wait until something is different. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Streams:
    def __init__(self, repo: TorzRepo, node: NodeLink, clock: Clock, key: bytes, root: Path, patience: float) -> None:
        """`root` holds a folder per torrent, named by its hash; `patience` is in seconds."""
        self._repo = repo
        self._node = node
        self._clock = clock
        self._key = key
        self._root = root
        self._patience = patience
        self._watched: dict[bytes, Pieces] = {}
        # What never changes for a hash, so that a player's many ranges need not look it up each time.
        self._files: dict[tuple[bytes, int], File] = {}
        self._places: dict[tuple[bytes, int], tuple[int, Place]] = {}
        self._numbers = itertools.count(1)
        node.listen(self._hear)

    async def open(self, token: str) -> "Stream":
        """What a direct link leads to. Raises InvalidLink, LinkGone, and Unavailable before the file is known."""
        link = DirectLink.verify(token, self._key, int(self._clock.now().timestamp()))
        held = self._repo.find(link.torz_id)
        if held is None or not held.visible:
            raise LinkGone(hint="The torz of this link was removed. Add it again and ask for a new link.")
        return Stream(self, held, await self._file(held.hash, link.index))

    async def _file(self, hash: bytes, index: int) -> File:
        kept = self._files.get((hash, index))
        if kept is None:
            encoded = await self._repo.files(hash)
            found = (file for file in decode_files(encoded or b"[]") if file.index == index)
            kept = next(found, None)
            if kept is None or kept.size is None:
                raise LinkGone(hint="The torrent of this link has no such file.")
            _keep(self._files, (hash, index), kept)
        return kept

    async def place(self, hash: bytes, index: int) -> tuple[int, Place] | None:
        """Where a file lies, and the length of a piece; None until the engine has laid it out."""
        kept = self._places.get((hash, index))
        if kept is None:
            layout = await self._repo.layout(hash)
            place = next((p for p in layout.places if p.index == index), None) if layout else None
            if not layout or not place:
                return None
            kept = (layout.piece_length, place)
            _keep(self._places, (hash, index), kept)
        return kept

    def held(self, id: str) -> HeldTorz | None:
        return self._repo.find(id)

    def folder(self, hash: bytes) -> Path:
        return self._root / hash.hex()

    @asynccontextmanager
    async def watch(self, hash: bytes) -> AsyncIterator[tuple[Pieces, int]]:
        """Follow a torrent's pieces under a reader's number, until the reader is gone."""
        pieces = self._watched.get(hash) or Pieces(hash, self._node)
        self._watched[hash] = pieces
        pieces.readers += 1
        number = next(self._numbers)
        try:
            yield pieces, number
        finally:
            pieces.readers -= 1
            await self._tell(Unread(number))
            if not pieces.readers and self._watched.get(hash) is pieces:
                del self._watched[hash]
                await self._tell(Unwatch(hash))

    async def read(self, number: int, hash: bytes, start: int, stop: int) -> None:
        """Tell the node where a reader is. A node that is away learns it when it is back."""
        await self._tell(Read(number, hash, start, stop))

    async def _tell(self, command: Read | Unread | Unwatch) -> None:
        # It forgets its readers with the connection, and is told again by those that still wait.
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_COURTESY):
                await self._node.call(command)

    @property
    def patience(self) -> float:
        return self._patience

    def now(self) -> float:
        return self._clock.monotonic()

    def _hear(self, event: Event | None) -> None:
        if event is None:
            for pieces in self._watched.values():
                pieces.forget()
        elif isinstance(event, Durable) and (watched := self._watched.get(event.hash)):
            watched.hear(event.pieces)
        elif isinstance(event, Lost) and (watched := self._watched.get(event.hash)):
            watched.forget()


def _keep(kept: dict[tuple[bytes, int], T], key: tuple[bytes, int], value: T) -> None:
    if len(kept) >= _KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


class Stream:
    """One file behind a direct link."""

    def __init__(self, streams: Streams, held: HeldTorz, file: File) -> None:
        self._streams = streams
        self._held = held
        self._index = file.index or 0
        self.size = file.size or 0
        self.name = file.name
        self.etag = f'"{held.hash.hex()}-{file.index}"'
        self.modified = from_unix(held.added_at)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator["Reading"]:
        """Have the file open for one request."""
        piece_length, place = await self._place()
        if self._held.complete:
            reading: Reading = Finished(place, self._streams.folder(self._held.hash))
        else:
            reading = Growing(self._streams, self._held, place, piece_length)
        try:
            yield reading
        finally:
            await reading.close()

    async def _place(self) -> tuple[int, Place]:
        """Where it lies; an unfinished torrent's files are laid out a moment after their metadata is known."""
        deadline = self._streams.now() + self._streams.patience
        while True:
            found = await self._streams.place(self._held.hash, self._index)
            if found:
                return found
            if self._streams.now() > deadline or self._held.complete:
                raise Unavailable("the engine has not prepared this file yet", retry_after=5)
            await asyncio.sleep(_RETRY)


class Reading(ABC):
    """An open file, part of which may be sent."""

    fd: int = -1
    """Open once `ready` has returned."""
    waits: bool
    """Whether `ready` may have to wait."""

    @abstractmethod
    async def ready(self, start: int, stop: int) -> int:
        """Wait until bytes from `start` can be sent; up to where, at most `stop`.

        Raises Unavailable when nothing came for too long, LinkGone when the torz was removed meanwhile.
        """

    async def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Finished(Reading):
    waits = False

    def __init__(self, place: Place, folder: Path) -> None:
        self._place = place
        self._folder = folder

    async def ready(self, start: int, stop: int) -> int:
        if self.fd < 0:
            self.fd = open_beneath(self._folder, self._place.path)
            if os.fstat(self.fd).st_size < self._place.size:
                raise _damaged()
        return stop


class Growing(Reading):
    """A file whose pieces still arrive. It moves its place in the engine's queue along with what is sent."""

    waits = True

    def __init__(self, streams: Streams, held: HeldTorz, place: Place, piece_length: int) -> None:
        self._streams = streams
        self._held = held
        self._place = place
        self._piece_length = piece_length
        self._watching = streams.watch(held.hash)
        self._pieces: Pieces | None = None
        self._number = 0
        self._told: tuple[int, int] | None = None
        self._complete = False

    async def ready(self, start: int, stop: int) -> int:
        if self._pieces is None:
            self._pieces, self._number = await self._watching.__aenter__()
        until = start if self._complete else await self._wait(self._pieces, start, stop)
        if self.fd < 0:
            self.fd = open_beneath(self._streams.folder(self._held.hash), self._place.path)
        return stop if self._complete else until

    async def close(self) -> None:
        await super().close()
        if self._pieces is not None:
            self._pieces = None
            await self._watching.__aexit__(None, None, None)

    async def _wait(self, pieces: Pieces, start: int, stop: int) -> int:
        deadline = self._streams.now() + self._streams.patience
        while True:
            left = deadline - self._streams.now()
            if left <= 0:
                raise Unavailable("the next bytes have not arrived", retry_after=5)
            if not pieces.is_known:
                self._told = None
                if self._finished_meanwhile():
                    self._complete = True
                    return stop
                try:
                    async with asyncio.timeout(left):
                        await pieces.ask()
                except (Unavailable, TimeoutError):
                    await asyncio.sleep(min(_RETRY, left))
                    continue
            until = self._reach(pieces, start, stop)
            await self._tell(start, stop)
            if until > start:
                return until
            try:
                await pieces.change(min(left, 5))
            except TimeoutError:
                if self._finished_meanwhile():
                    self._complete = True
                    return stop

    def _reach(self, pieces: Pieces, start: int, stop: int) -> int:
        """How far from `start` everything can be read, a window at most."""
        begin = self._place.offset + start
        end = self._place.offset + min(stop, start + WINDOW)
        for piece in pieces_of(ByteRange(begin, end), self._piece_length):
            if not pieces.has(piece):
                return max(start, piece * self._piece_length - self._place.offset)
        return end - self._place.offset

    async def _tell(self, start: int, stop: int) -> None:
        """Once a piece: where we are, in the torrent's own bytes."""
        here = (self._place.offset + start) // self._piece_length, stop
        if here != self._told:
            self._told = here
            offset = self._place.offset
            await self._streams.read(self._number, self._held.hash, offset + start, offset + stop)

    def _finished_meanwhile(self) -> bool:
        held = self._streams.held(self._held.id)
        if held is None:
            raise LinkGone(hint="The torz of this link was removed.")
        if held.status in (TorzStatus.FAILED, TorzStatus.INVALID):
            raise Unavailable(held.message or "the download failed", retry_after=60)
        return held.complete


def open_beneath(folder: Path, relative: str) -> int:
    """Open a file below a folder for reading, following no link on the way. Raises TorzNotFound."""
    parts = relative.split("/")
    if not relative or any(part in ("", ".", "..") for part in parts):
        raise TorzNotFound("file not found")
    opened: list[int] = []
    try:
        opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            opened.append(os.open(part, flags, dir_fd=opened[-1]))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(parts[-1], flags, dir_fd=opened[-1])
    except OSError as exc:
        raise _damaged() from exc
    finally:
        for each in opened:
            os.close(each)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _damaged()
    return fd


def _damaged() -> TorzNotFound:
    return TorzNotFound("the file is missing on the server's disk", hint="Remove the torz and add it again.")
