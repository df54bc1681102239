"""Those who read while a torrent is downloaded: what they may read, and what they want next.

That a piece's hash was right does not mean that its bytes have reached the file. A piece counts as durable when it was
read back from the file and hashed, or when everything written before was flushed.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import libtorrent as lt

from torz.bus.socket import NodeServer
from torz.domain.errors import Unavailable
from torz.node.files import DataFolder, read_span
from torz.node.held import Held, has_bit, pack_bits, set_bit
from torz.node.scheduler import Plan, Reader, Scheduler
from torz.ports.node import Durable, Lost, PieceMap

log = logging.getLogger("torz.readers")

GRACE = 10.0
"""Seconds after the last reader in which its priorities stay: players close and open all the time."""
_FLUSH_PATIENCE = 30.0
"""Seconds that a flush may take; the disk may be slow."""
_BATCH = 8
"""Pieces that are read back in one go."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
_TRIES = 12
"""After so many looks, half a second or so, a flush is asked for."""
ReaderId = tuple[int, int]
"""Connection, and the reader's number there."""


class Readers:
    def __init__(self, server: Callable[[], NodeServer], data: DataFolder) -> None:
        self._server = server
        self._data = data
        self._of: dict[ReaderId, Held] = {}
        self._watched: dict[bytes, Held] = {}
        self._quiet: dict[bytes, float] = {}
        self._threads = ThreadPoolExecutor(2, "torz-node-verify")

    async def aclose(self) -> None:
        tasks = [held.verifying for held in self._watched.values() if held.verifying]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(cancel_futures=True)

    async def watch(self, held: Held, connection: int) -> PieceMap:
        """Tell a connection what can be read now, and from now on what more."""
        held.watchers.add(connection)
        self._watched[held.hash] = held
        if held.scheduler is None:
            assert held.layout
            held.scheduler = Scheduler(held.layout.piece_length, held.count)
            held.passed = bytearray((held.count + 7) // 8)
            held.durable = bytearray((held.count + 7) // 8)
            await self._learn_pieces(held)
        assert held.layout
        return PieceMap(held.layout.piece_length, held.count, bytes(held.durable))

    async def _learn_pieces(self, held: Held) -> None:
        """What has passed up to now, and what of it is durable after a flush."""
        try:
            before = await self._pieces(held)
            await self.flush(held)
        except RuntimeError as exc:  # removed meanwhile
            raise Unavailable("the torrent is gone") from exc
        for index, byte in enumerate(before):
            held.passed[index] |= byte
            held.durable[index] |= byte

    async def _pieces(self, held: Held) -> bytearray:
        if held.complete:
            return pack_bits([True] * held.count)
        loop = asyncio.get_running_loop()
        status = await loop.run_in_executor(
            self._threads, lambda: list(held.handle.status(lt.torrent_handle.query_pieces).pieces)
        )
        if held.status.value == "processing" or len(status) != held.count:
            return bytearray((held.count + 7) // 8)  # the check has not come to an end
        return pack_bits(status)

    def unwatch(self, held: Held, connection: int) -> None:
        held.watchers.discard(connection)
        if not held.watchers:
            self._quiet[held.hash] = time.monotonic()

    def gone(self, connection: int) -> None:
        """A connection ended, and its readers with it."""
        for id in [id for id in self._of if id[0] == connection]:
            self.leave(id)
        for held in list(self._watched.values()):
            if connection in held.watchers:
                self.unwatch(held, connection)

    def read(self, held: Held, id: ReaderId, start: int, stop: int) -> None:
        """A reader is at a byte of the torrent."""
        if held.scheduler is None or not held.layout:
            return
        length = held.layout.piece_length
        reader = Reader(start // length, -(-stop // length))
        self._of[id] = held
        self._apply(held, held.scheduler.read(id, reader, held.passed, time.monotonic()))
        # What passed a while ago may not have been looked at yet.
        near = range(reader.first, min(reader.first + 4, reader.stop))
        held.to_verify |= {
            p for p in near if p < held.count and has_bit(held.passed, p) and not has_bit(held.durable, p)
        }
        self._verify(held)

    def leave(self, id: ReaderId) -> None:
        """A reader is gone; its window stays for a while."""
        held = self._of.pop(id, None)
        if held and held.scheduler:
            self._quiet[held.hash] = time.monotonic()
            self._apply(held, held.scheduler.leave(id, held.passed, time.monotonic()))

    def passed(self, held: Held, piece: int) -> None:
        """A piece's hash was right."""
        if held.scheduler is None or piece >= held.count:
            return
        set_bit(held.passed, piece)
        if not has_bit(held.durable, piece):
            held.to_verify.add(piece)
            self._verify(held)
        self._apply(held, held.scheduler.arrived(held.passed, time.monotonic()))

    def nothing_wanted(self, held: Held) -> None:
        """All that readers asked for is here, and the rest was held back."""
        if held.scheduler:
            self._apply(held, held.scheduler.fetch_all())

    def completed(self, held: Held) -> None:
        """Everything is durable; those who read are told, and need us no more."""
        if held.scheduler is None:
            return
        pieces = [piece for piece in range(held.count) if not has_bit(held.durable, piece)]
        held.passed = held.durable = pack_bits([True] * held.count)
        self._tell(held, pieces)

    def resync(self, held: Held) -> None:
        """Something may have been missed: those who watch begin anew."""
        server = self._server()
        for connection in held.watchers:
            server.send(connection, Lost(held.hash))
        self.drop(held)

    def drop(self, held: Held) -> None:
        """Nothing that was known of its pieces counts any more."""
        self._of = {id: one for id, one in self._of.items() if one is not held}
        self._watched.pop(held.hash, None)
        self._quiet.pop(held.hash, None)
        held.watchers = set()
        held.scheduler = None
        held.to_verify = set()
        if held.verifying:
            held.verifying.cancel()
            held.verifying = None
        for future in held.flushed:
            future.cancel()
        held.flushed = []

    def tick(self) -> None:
        """Notice what is late, and put back to normal what nobody reads any more."""
        now = time.monotonic()
        for held in list(self._watched.values()):
            if held.scheduler and held.scheduler.has_readers:
                self._apply(held, held.scheduler.arrived(held.passed, now))
            elif now - self._quiet.get(held.hash, now) > GRACE and not held.watchers:
                self._put_back(held)

    def _put_back(self, held: Held) -> None:
        with contextlib.suppress(RuntimeError):
            held.handle.clear_piece_deadlines()
            if not held.complete:
                held.handle.prioritize_pieces([4] * held.count)
        self.drop(held)

    def _apply(self, held: Held, plan: Plan | None) -> None:
        if plan is None or held.complete:
            return
        with contextlib.suppress(RuntimeError):  # removed meanwhile
            if plan.urgent:
                held.handle.clear_piece_deadlines()
            if plan.everything is not None:
                every = [plan.everything] * held.count  # in one go: wanting nothing for a moment counts as finished
                for piece, priority in plan.priorities:
                    every[piece] = priority
                held.handle.prioritize_pieces(every)
            elif plan.priorities:
                held.handle.prioritize_pieces(plan.priorities)
            for piece in (*plan.urgent, *plan.late):
                held.handle.set_piece_deadline(piece, 0)

    # Durability

    async def flush(self, held: Held) -> None:
        """Wait until everything written before is in the files."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held.flushed.append(future)
        held.handle.flush_cache()  # one each: the one under way may have begun before our bytes came
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_PATIENCE):
                await future

    def flushed(self, held: Held) -> None:
        if held.flushed:
            future = held.flushed.pop(0)
            if not future.done():
                future.set_result(None)

    def _verify(self, held: Held) -> None:
        if held.to_verify and held.verifying is None and not held.complete:
            held.verifying = asyncio.create_task(self._verify_all(held))

    async def _verify_all(self, held: Held) -> None:
        """Look at pieces until each is durable, those that readers wait for first."""
        pause, tries = _FIRST_PAUSE, 0
        try:
            while held.to_verify:
                if not _can_hash(held):
                    await self._flush_all(held)
                    continue
                batch = self._next(held)
                good = await asyncio.get_running_loop().run_in_executor(
                    self._threads, _good_pieces, self._data, held, batch
                )
                if good:
                    pause, tries = _FIRST_PAUSE, 0
                    self._mark(held, good)
                else:
                    tries += 1
                    if tries >= _TRIES:
                        await self._flush_all(held)
                        pause, tries = _FIRST_PAUSE, 0
                        continue
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        except OSError as exc:
            log.warning("the files of %s cannot be read back: %s", held.name, exc)
        finally:
            if held.verifying is asyncio.current_task():
                held.verifying = None

    def _next(self, held: Held) -> list[int]:
        at = min((reader.first for reader in held.scheduler.readers), default=0) if held.scheduler else 0
        return sorted(held.to_verify, key=lambda piece: (piece < at, piece))[:_BATCH]

    async def _flush_all(self, held: Held) -> None:
        """The slow way: everything that has passed by now."""
        pieces = set(held.to_verify)
        await self.flush(held)
        self._mark(held, sorted(pieces))
        await asyncio.sleep(0.2)  # a flush closes the files, so not for every piece

    def _mark(self, held: Held, pieces: list[int]) -> None:
        held.to_verify -= set(pieces)
        fresh = [piece for piece in pieces if not has_bit(held.durable, piece)]
        for piece in fresh:
            set_bit(held.durable, piece)
        self._tell(held, fresh)

    def _tell(self, held: Held, pieces: list[int]) -> None:
        if pieces:
            server = self._server()
            for connection in held.watchers:
                server.send(connection, Durable(held.hash, pieces))


def _can_hash(held: Held) -> bool:
    """A torrent of v2 alone has no hash of whole pieces."""
    return bool(held.torrent and not held.torrent.hash.is_v2)


def _good_pieces(data: DataFolder, held: Held, pieces: list[int]) -> list[int]:
    """Those whose bytes in the files have the right hash."""
    layout, ti = held.layout, _info(held)
    if layout is None or ti is None:
        return []
    folder = data.folder(held.hash)
    good = []
    for piece in pieces:
        start = piece * layout.piece_length
        try:
            span = read_span(folder, layout, start, start + ti.piece_size(piece))
        except FileNotFoundError:  # nothing was written yet
            continue
        if hashlib.sha1(span, usedforsecurity=False).digest() == ti.hash_for_piece(piece):
            good.append(piece)
    return good


def _info(held: Held) -> Any:
    try:
        return held.handle.torrent_file()
    except RuntimeError:
        return None
