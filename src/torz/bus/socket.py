"""The bus over a unix socket: the node's end, and the end of those who use it."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from torz.bus.frames import Call, Down, Reply, Told, calls, downs, pack, read
from torz.domain.errors import TorzError, Unavailable
from torz.ports.clock import Clock
from torz.ports.node import Changed, Command, Event, Handler, Nudge, PieceMap, Progress, Vitals

log = logging.getLogger("torz.bus")

_FALLEN_BEHIND = 32 << 20
"""Bytes waiting for a client that does not read; it is cut off, and gets a snapshot when it comes back."""
_PATIENCE = 10.0
"""Seconds that a command waits for its answer."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between tries to connect."""
_MOST_CALLS = 256
"""Commands of one connection that are worked on at once; the next ones wait in its socket."""
_BROKEN = (OSError, EOFError, ValueError, msgspec.MsgspecError)
"""What a connection ends with, whatever the other end did."""


class NodeServer:
    """The node's end: answers commands, tells events."""

    def __init__(
        self, path: Path, handle: Handler, snapshot: Callable[[], list[Event]], on_gone: Callable[[int], None]
    ) -> None:
        """`snapshot` is what a new connection is told first; `on_gone` gets the number of one that ended."""
        self._path = path
        self._handle = handle
        self._snapshot = snapshot
        self._on_gone = on_gone
        self._numbers = itertools.count(1)
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises OSError. Only the owner of the socket's folder should be able to enter it."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        self._path.chmod(0o600)

    async def aclose(self) -> None:
        if self._server:
            self._server.close()
        for writer in list(self._writers.values()):
            writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def broadcast(self, events: list[Event]) -> None:
        """Tell everybody."""
        if self._writers and events:
            frame = pack(Down(told=Told(events)))
            for number in list(self._writers):
                self._write(number, frame)

    def send(self, number: int, event: Event) -> None:
        """Tell one connection."""
        if number in self._writers:
            self._write(number, pack(Down(told=Told([event]))))

    def _write(self, number: int, frame: bytes) -> None:
        transport = self._writers[number].transport
        if transport.get_write_buffer_size() > _FALLEN_BEHIND:
            log.warning("a connection does not keep up and is cut off")
            transport.abort()
        elif not transport.is_closing():
            transport.write(frame)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        self._writers[number] = writer
        answering: set[asyncio.Task[None]] = set()
        try:
            self._write(number, pack(Down(told=Told(self._snapshot(), snapshot=True))))
            while True:
                call = calls.decode(await read(reader))
                if len(answering) >= _MOST_CALLS:
                    await asyncio.wait(answering, return_when=asyncio.FIRST_COMPLETED)
                one = asyncio.create_task(self._answer(number, call))
                answering.add(one)
                one.add_done_callback(answering.discard)
        except _BROKEN:
            pass
        finally:
            del self._writers[number]
            writer.close()
            for one in list(answering):
                one.cancel()
            await asyncio.gather(*answering, return_exceptions=True)
            self._on_gone(number)

    async def _answer(self, number: int, call: Call) -> None:
        try:
            reply = Reply(call.id, await self._handle(call.command, number))
        except TorzError as exc:
            reply = Reply(call.id, error=exc.message)
        except Exception:  # whatever it was, the one who asked must not wait for nothing
            log.exception("a command failed")
            reply = Reply(call.id, error="the engine could not do it")
        if number in self._writers:
            self._write(number, pack(Down(reply=reply)))


class SocketNodeLink:
    """The other end: a NodeLink that connects again and again for as long as it lives.

    What it knows of a torrent is what it last heard. Nothing of that is stale: the snapshot at every connection
    replaces all of it, and `Changed` drops what was heard before; of a torrent that goes on a node tells after that.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._numbers = itertools.count(1)
        self._said: dict[bytes, Progress] = {}
        self._waiting: dict[int, asyncio.Future[PieceMap | None]] = {}
        self._listeners: list[Callable[[Event | None], None]] = []
        self._writer: asyncio.StreamWriter | None = None
        self._nudged = False
        self._task: asyncio.Task[None] | None = None
        self.vitals: Vitals | None = None

    @property
    def alive(self) -> bool:
        return self._writer is not None

    async def start(self) -> None:
        """Begin to connect; whether that has succeeded is `alive`."""
        self._task = asyncio.create_task(self._run(), name="node link")

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def progress(self, hash: bytes) -> Progress | None:
        return self._said.get(hash)

    def listen(self, listener: Callable[[Event | None], None]) -> Callable[[], None]:
        self._listeners.append(listener)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def nudge(self) -> None:
        if self._writer is None:
            self._nudged = True  # a node looks at everything when it starts, but ours may only have lost its link
        else:
            self._writer.write(pack(Call(0, Nudge())))

    async def call(self, command: Command) -> PieceMap | None:
        if self._writer is None:
            raise Unavailable("the engine is being restarted", retry_after=2)
        number = next(self._numbers)
        future: asyncio.Future[PieceMap | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(pack(Call(number, command)))
        try:
            async with asyncio.timeout(_PATIENCE):
                return await future
        except TimeoutError as exc:
            raise Unavailable("the engine does not answer", retry_after=5) from exc
        finally:
            self._waiting.pop(number, None)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                pass
            else:
                if await self._use(reader, writer):
                    pause = _FIRST_PAUSE
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Follow a connection to its end. Whether it was one to a node at all."""
        try:
            await self._follow(reader, writer)
        except _BROKEN as exc:
            log.warning("the link to the engine broke: %s", type(exc).__name__)
        finally:
            was_alive = self.alive
            self._lose()
            writer.transport.abort()
        return was_alive

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> NoReturn:
        while True:
            down = downs.decode(await read(reader))
            if down.told:
                if down.told.snapshot:
                    self._begin(writer)
                for event in down.told.events:
                    self._hear(event)
            if down.reply:
                self._settle(down.reply)

    def _begin(self, writer: asyncio.StreamWriter) -> None:
        self._said.clear()
        self._writer = writer
        if self._nudged:
            self._nudged = False
            self.nudge()
        self._tell(None)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._said[event.hash] = event
        elif isinstance(event, Vitals):
            self.vitals = event
        elif isinstance(event, Changed):
            self._said.pop(event.hash, None)
        self._tell(event)

    def _settle(self, reply: Reply) -> None:
        future = self._waiting.get(reply.id)
        if future and not future.done():
            if reply.error:
                future.set_exception(Unavailable(reply.error, retry_after=2))
            else:
                future.set_result(reply.result)

    def _lose(self) -> None:
        was_alive, self._writer = self.alive, None
        self._said.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the engine is being restarted", retry_after=2))
        if was_alive:
            self._tell(None)

    def _tell(self, event: Event | None) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # one listener's trouble is neither the others' nor the link's
                log.exception("a listener failed")
