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
from torz.domain.torz import TorzStatus
from torz.node.files import DataFolder, read_span
from torz.node.held import Held, has_bit, pack_bits, set_bit
from torz.node.scheduler import PLAIN, Plan, Reader, Scheduler
from torz.ports.node import Durable, Lost, PieceMap

log = logging.getLogger("torz.readers")

GRACE = 10.0
"""Seconds after the last reader in which its priorities stay: players close and open all the time."""
FLUSH_PATIENCE = 30.0
"""Seconds that a flush may take; the disk may be slow."""
_BATCH = 8
"""Pieces that are read back in one go."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
_TRIES = 12
"""After so many looks, half a second or so, a flush is asked for."""
_BETWEEN_FLUSHES = 0.2
"""Seconds: a flush closes the files, so not one for every piece."""
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
        self.distrusted: Callable[[Held], None] = lambda _: None
        """What is done when files do not hold what the engine believes they do."""

    async def aclose(self) -> None:
        tasks = [task for held in self._watched.values() for task in (held.verifying, held.learning) if task]
        for held in list(self._watched.values()):
            self.drop(held)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(cancel_futures=True)

    async def watch(self, held: Held, connection: int) -> PieceMap:
        """Tell a connection what can be read now, and from now on what more. Raises Unavailable."""
        if held.status is TorzStatus.PROCESSING:
            raise Unavailable("the torrent's files are being checked")
        assert held.layout
        if held.scheduler is None:
            self._watched[held.hash] = held
            held.scheduler = Scheduler(held.layout.piece_length, held.count)
            held.passed = bytearray((held.count + 7) // 8)
            held.durable = bytearray((held.count + 7) // 8)
            held.learning = asyncio.create_task(self._learn_pieces(held))
        held.watchers.add(connection)
        scheduler = held.scheduler
        if held.learning:
            await asyncio.wait([held.learning])
        if held.scheduler is not scheduler:  # it was dropped meanwhile
            raise Unavailable("the engine does not know this torrent any more")
        return PieceMap(held.layout.piece_length, held.count, bytes(held.durable))

    async def _learn_pieces(self, held: Held) -> None:
        """What has passed up to now, and what of it is durable after a flush."""
        try:
            before = await self._pieces(held)
            if any(before) and not held.complete:
                await self._barrier(held)
        except (RuntimeError, TimeoutError) as exc:  # removed meanwhile, or the disk hangs
            log.warning("what there is of %s cannot be told: %s", held.name, type(exc).__name__)
            self.drop(held)
            return
        for index, byte in enumerate(before):
            held.passed[index] |= byte
            held.durable[index] |= byte
        held.learning = None
        self._verify(held)

    async def _pieces(self, held: Held) -> bytearray:
        """Those whose hash was right."""
        if held.complete:
            return pack_bits([True] * held.count)
        loop = asyncio.get_running_loop()
        pieces = await loop.run_in_executor(
            self._threads, lambda: list(held.handle.status(lt.torrent_handle.query_pieces).pieces)
        )
        return pack_bits(pieces) if len(pieces) == held.count else bytearray((held.count + 7) // 8)

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
        reader = Reader(max(0, start) // length, -(-stop // length))
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
        if held.planning is None:  # pieces come by the dozen
            held.planning = asyncio.get_running_loop().call_soon(self._plan, held)

    def _plan(self, held: Held) -> None:
        held.planning = None
        if held.scheduler:
            self._apply(held, held.scheduler.arrived(held.passed, time.monotonic()))

    def nothing_wanted(self, held: Held) -> None:
        """All that readers asked for is here, and the rest was held back."""
        if held.scheduler and (plan := held.scheduler.arrived(held.passed, time.monotonic())):
            self._apply(held, plan)
        else:
            with contextlib.suppress(RuntimeError):
                held.handle.prioritize_pieces([PLAIN] * held.count)

    def completed(self, held: Held) -> None:
        """Everything is durable; those who read are told, and need us no more."""
        if held.scheduler is None:
            return
        pieces = [piece for piece in range(held.count) if not has_bit(held.durable, piece)]
        held.passed, held.durable = pack_bits([True] * held.count), pack_bits([True] * held.count)
        held.to_verify = set()
        self._tell(held, pieces)

    def lose(self, held: Held) -> None:
        """What was said of its pieces no longer counts: those who watch are told, and begin anew."""
        server = self._server()
        for connection in held.watchers:
            server.send(connection, Lost(held.hash))
        self.drop(held)

    def drop(self, held: Held) -> None:
        """Forget all about its pieces and readers."""
        self._of = {id: one for id, one in self._of.items() if one is not held}
        if self._watched.get(held.hash) is held:
            del self._watched[held.hash]
            self._quiet.pop(held.hash, None)
        held.watchers = set()
        held.scheduler = None
        held.to_verify = set()
        for task in (held.verifying, held.learning):
            if task and task is not asyncio.current_task():
                task.cancel()
        held.verifying = held.learning = None
        if held.planning:
            held.planning.cancel()
            held.planning = None

    def tick(self) -> None:
        """Notice what is late, and put back to normal what nobody reads any more."""
        now = time.monotonic()
        for held in list(self._watched.values()):
            if held.scheduler and held.scheduler.has_readers:
                self._apply(held, held.scheduler.arrived(held.passed, now))
            elif not held.watchers and now - self._quiet.setdefault(held.hash, now) > GRACE:
                self._put_back(held)

    def _put_back(self, held: Held) -> None:
        with contextlib.suppress(RuntimeError):
            held.handle.clear_piece_deadlines()
            if not held.complete:
                held.handle.prioritize_pieces([PLAIN] * held.count)
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
        """Wait until what was written is in the files. Raises TimeoutError, and RuntimeError when it was removed.

        The engine flushes by itself too, when a torrent is finished, and its answer to that cannot be told from the one
        to us. So this is enough for what had passed when that happened; for anything else there is `_barrier`.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held.handle.flush_cache()
        held.flushed.append(future)
        try:
            async with asyncio.timeout(FLUSH_PATIENCE):
                await future
        finally:
            if future in held.flushed:
                held.flushed.remove(future)

    async def _barrier(self, held: Held) -> None:
        """Wait until everything that has passed is in the files; raises as `flush` does.

        One answer may be to the engine's own flush, which began before we asked; the second one cannot.
        """
        await self.flush(held)
        await self.flush(held)

    def flushed(self, held: Held) -> None:
        if held.flushed:
            future = held.flushed.pop(0)
            if not future.done():
                future.set_result(None)

    def cannot_flush(self, held: Held) -> None:
        """The disk refuses: nobody need wait for what will not come."""
        for future in held.flushed:
            if not future.done():
                future.set_exception(TimeoutError())

    def _verify(self, held: Held) -> None:
        if held.to_verify and held.verifying is None and held.learning is None and not held.complete:
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
                if good := await self._look(held, batch):
                    pause, tries = _FIRST_PAUSE, 0
                    self._mark(held, good)
                elif tries < _TRIES:
                    tries += 1
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                else:
                    await self._barrier(held)
                    good = await self._look(held, batch)
                    if not good:
                        log.warning("the files of %s do not hold what came", held.name)
                        self.distrusted(held)
                        return
                    self._mark(held, good)
        except (RuntimeError, TimeoutError) as exc:  # removed meanwhile, or the disk hangs; the next piece looks again
            log.warning("the files of %s cannot be looked at: %s", held.name, type(exc).__name__)
        finally:
            if held.verifying is asyncio.current_task():
                held.verifying = None

    async def _look(self, held: Held, batch: list[int]) -> list[int]:
        """Which of these pieces can be read."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _good_pieces, self._data, held, batch)

    def _next(self, held: Held) -> list[int]:
        at = min((reader.first for reader in held.scheduler.readers), default=0) if held.scheduler else 0
        return sorted(held.to_verify, key=lambda piece: (piece < at, piece))[:_BATCH]

    async def _flush_all(self, held: Held) -> None:
        """The slow way: everything that has passed by now."""
        pieces = sorted(held.to_verify)
        await self._barrier(held)
        self._mark(held, [piece for piece in pieces if piece in held.to_verify])
        await asyncio.sleep(_BETWEEN_FLUSHES)

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
        except OSError:  # nothing was written yet, or it is gone
            continue
        if hashlib.sha1(span, usedforsecurity=False).digest() == ti.hash_for_piece(piece):
            good.append(piece)
    return good


def _info(held: Held) -> Any:
    try:
        return held.handle.torrent_file()
    except RuntimeError:
        return None
