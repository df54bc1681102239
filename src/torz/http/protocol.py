"""HTTP/1.1 over uvicorn's protocol, with what it lacks: files sent by the kernel, long request lines, bounded patience.

A handler sends part of a file with the ASGI message `http.response.zerocopysend`, within a Content-Length:
`file` (a descriptor, or what has a `fileno`), `offset` and `count` in bytes, both needed, and `more_body`.
`file` has to stay open until that send has returned or raised, which it does only when no thread uses it any more.
A client that goes away is no error: the send returns, and `receive` says `http.disconnect`.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

log = logging.getLogger("torz.http")

ALONE = 4
"""Up to so many streams at once, turns are long."""
SLICE, SLICE_LEAST = 256 << 10, 64 << 10
"""Bytes that are sent at once. With 1 MiB, also a single stream is slower by a quarter."""
SLICE_COLD = 1 << 20
"""The same in a thread, where nobody else waits and the way there is what costs."""
TURN_ALONE = 4 << 20
"""Bytes that a stream among few sends before others get their turn; among many it is one slice."""
ROUND = 16 << 20
"""Bytes that all streams send together before others get their turn: some 5 ms, so a request beside them is quick."""
AHEAD = 8 << 20
"""Bytes that the kernel is asked to read ahead of a cold place."""
DISK_THREADS = 8
_READ = 256 << 10
"""Bytes that a loop hands over at once, at most."""
_LINGER = 2.0
"""Seconds that a refused client gets to stop talking and to read why."""
_PROBE = bytearray(1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask of our memory and patience."""

    head: int = 1 << 20
    """Bytes of request line and headers: 500 magnets fit, escaped."""
    head_patience: float = 30.0
    """Seconds in which a request's head has to arrive."""
    idle_patience: float = 75.0
    """Seconds that a connection may wait for its next request."""


def is_warm(file: int, offset: int, count: int) -> bool:
    """Whether sending these bytes would not wait for a disk: their first and last page are in memory."""
    try:
        for at in (offset, offset + count - 1):
            os.preadv(file, [_PROBE], at, os.RWF_NOWAIT)
    except (OSError, AttributeError):  # cold, or the file system or the kernel cannot say
        return False
    return True


class Sending:
    """What all streams of a server share: the knowledge of how many they are, and threads for cold disks."""

    def __init__(self, is_warm: Callable[[int, int, int], bool] = is_warm) -> None:
        """`is_warm` tells of a file, an offset and a count whether the loop may send these bytes itself."""
        self.is_warm = is_warm
        self.threads = ThreadPoolExecutor(DISK_THREADS, "torz-cold-disk")
        self.streams = 0

    def slice_and_turn(self) -> tuple[int, int]:
        """Bytes to send at once, and bytes after which it is somebody else's turn."""
        if self.streams <= ALONE:
            return SLICE, TURN_ALONE
        size = min(SLICE, max(SLICE_LEAST, ROUND // self.streams))
        return size, size


class Outlet:
    """A connection's socket for the kernel to write to: a duplicate, as a loop lets nobody wait for a transport's own.

    There is no timeout, as a paused player is a patient reader; a dead one is noticed by TCP.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, sending: Sending) -> None:
        self.closed = False
        self._transport = transport
        self._loop = loop
        self._sending = sending
        self._fd = os.dup(transport.get_extra_info("socket").fileno())
        self._in_thread = False
        self._waiter: asyncio.Future[None] | None = None
        self._since_turn = 0

    async def send(self, file: int, at: int, end: int) -> None:
        """Returns early when closed. Raises EOFError when the file ends before `end`, OSError for a broken socket."""
        await self._flush()
        while at < end and not self.closed:
            size, turn = self._sending.slice_and_turn()
            if self._since_turn >= turn:
                self._since_turn = 0
                await asyncio.sleep(0)
                continue
            try:
                sent = await self._send_slice(file, at, end, size)
            except BlockingIOError:
                await self._writable()
                continue
            if not sent:
                raise EOFError("the file is shorter than promised")
            at += sent
            self._since_turn += sent

    def close(self) -> None:
        """Wake whoever waits; the socket is let go as soon as no thread writes to it."""
        self.closed = True
        self._wake()
        if not self._in_thread and self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1

    async def _flush(self) -> None:
        """What the transport still holds has to be out before the kernel writes past it."""
        if self._transport.get_write_buffer_size():
            self._since_turn = 0
            await asyncio.sleep(0)  # uvloop writes at the end of a turn
        while self._transport.get_write_buffer_size() and not self.closed:
            await self._writable()

    async def _send_slice(self, file: int, at: int, end: int, size: int) -> int:
        count = min(size, end - at)
        if self._sending.is_warm(file, at, count):
            return os.sendfile(self._fd, file, at, count)
        count = min(SLICE_COLD, end - at)
        self._since_turn = 0
        self._in_thread = True
        try:
            return await _finished(
                self._loop.run_in_executor(self._sending.threads, _send_cold, self._fd, file, at, count)
            )
        finally:
            self._in_thread = False
            if self.closed:
                self.close()

    async def _writable(self) -> None:
        if self.closed:
            return
        self._since_turn = 0
        self._waiter = self._loop.create_future()
        self._loop.add_writer(self._fd, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._fd >= 0:
                self._loop.remove_writer(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _send_cold(out: int, file: int, at: int, count: int) -> int:
    """In a thread, since already asking to read ahead may wait for the disk."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(file, at, AHEAD, os.POSIX_FADV_WILLNEED)
    return os.sendfile(out, file, at, count)


async def _finished(work: asyncio.Future[int]) -> int:
    """The result of a thread, which is waited for even when cancelled: no descriptor may be closed under it."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        work.exception()  # seen, and of no interest any more
        raise cancelled
    return work.result()


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    def __init__(self, protocol: "Protocol", *, keep_alive: bool) -> None:
        super().__init__(
            scope=protocol.scope,
            transport=protocol.transport,
            flow=protocol.flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=protocol.expect_100_continue,
            keep_alive=keep_alive,
            on_response=protocol.on_response_complete,
        )
        self._protocol = protocol

    @property
    def is_open(self) -> bool:
        return not self.response_complete and not self.disconnected

    def disconnect(self) -> None:
        """Let the handler know that nobody listens any more."""
        if not self.response_complete:
            self.disconnected = True
        self.message_event.set()

    async def run_asgi(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as exc:  # the application has logged it; what is promised cannot be kept
            log.debug("%s %s was cut off: %s", self.scope["method"], self.scope["path"], exc)
        finally:
            self.on_response = lambda: None
            if self.is_open:
                self.transport.abort()

    def send(self, message: Any) -> Coroutine[Any, Any, None]:
        if message["type"] == "http.response.zerocopysend":
            return self._send_part(message)
        return super().send(message)

    async def _send_part(self, message: Any) -> None:
        if not self.response_started:
            raise RuntimeError("Expected ASGI message 'http.response.start'")
        if self.scope["method"] != "HEAD" and not self.disconnected:
            await self._send_file(message["file"], message["offset"], message["count"])
        if not message.get("more_body", False):
            await super().send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_file(self, file: Any, offset: int, count: int) -> None:
        if count > self.expected_content_length:  # which is 0 with chunks, and after the end
            raise RuntimeError("A file can only be sent within a Content-Length")
        self.expected_content_length -= count
        try:
            await self._protocol.send_file(file if isinstance(file, int) else file.fileno(), offset, count)
        except (ConnectionError, TimeoutError):
            self.transport.abort()
            self.disconnect()
        except (EOFError, OSError):  # nothing is padded
            self.transport.abort()
            self.disconnect()
            raise


class _Flow(FlowControl):
    """Reads on only while no request waits for its turn: else one connection could queue requests without end."""

    def __init__(self, transport: asyncio.Transport, waiting: deque[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        sending: Sending,
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(config, state, {}, loop)
        self._limits = limits
        self._sending = sending
        self._on_lost = on_lost
        self._outlet: Outlet | None = None
        self._active: Cycle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._in_head = False
        self._unused = 0
        """Bytes that were read since a message or a part of a body came of them, and up to one read more."""
        self._owed = 0
        """Bytes of a body that the parser leaves to us."""
        self._is_deaf = False
        """We have given up on what the client says."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._active is not None:  # uvicorn only tells the newest request
            self._active.disconnect()
        self._unset_keepalive_if_required()
        self._stop_expecting()
        if self._outlet is not None:
            self._outlet.close()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(400, "This is not HTTP/1.1.")
        else:
            self._count_head(len(data))

    def _count_head(self, read: int) -> None:
        if self._is_deaf:
            return
        self._unused += read
        if self._unused > self._limits.head + _READ:
            self._refuse_head()
        elif self._in_head:
            self._expect_head()

    def _feed(self, data: bytes | memoryview) -> None:
        while data:
            if self._owed:
                body, data = bytes(data[: self._owed]), data[self._owed :]
                self._owed -= len(body)
                self.on_body(body)
                if not self._owed:
                    self.on_message_complete()
                continue
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = memoryview(data)[offer.args[0] :]

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._unset_keepalive_if_required()
        self._in_head = True
        self._unused = 0

    def on_headers_complete(self) -> None:
        if self._is_deaf:
            return
        if self._unused + _READ > self._limits.head and self._head_size() > self._limits.head:
            self._refuse_head()
            return
        self._in_head = False
        self._unused = 0
        self._unset_keepalive_if_required()
        self._stop_expecting()
        if self.parser.should_upgrade():
            self._owed = self._declared_length()
        version = self.parser.get_http_version()
        self.scope = self._scope(version)
        self.headers = []  # for trailers, which nobody reads
        before = self.cycle
        cycle = Cycle(self, keep_alive=version != "1.0" and self.parser.should_keep_alive())
        self.cycle = cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.pipeline.appendleft((cycle, self.app))
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        self._unused = 0
        if not self._is_deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._unused = 0
        if not (self._is_deaf or self._owed or self.cycle.response_complete):
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _scope(self, version: str) -> Any:
        target = self.url if self.url.startswith(b"/") else _origin_form(self.url)
        path, _, query = target.partition(b"?")  # httptools' own parser ends at 64 KiB
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query.partition(b"#")[0],
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "state": {},
            "extensions": {"http.response.zerocopysend": {}} if self.scheme == "http" else {},
        }

    def _declared_length(self) -> int:
        """Of a request that offers to upgrade, as Java's HTTP client does by default: httptools forgets its body."""
        for name, value in self.headers:
            if name == b"content-length":
                return int(value)
        return 0

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        return False

    async def send_file(self, file: int, offset: int, count: int) -> None:
        """Send bytes of a file by the kernel; see Outlet."""
        if self._outlet is None:
            self._outlet = Outlet(self.transport, self.loop, self._sending)
        self._sending.streams += 1
        try:
            await self._outlet.send(file, offset, offset + count)
        finally:
            self._sending.streams -= 1

    def _expect_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self._limits.head_patience, self._lose_patience)

    def _stop_expecting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        if self._active is not None and self._active.is_open:
            self._expect_head()  # meanwhile we may not be reading
        elif self._in_head:
            self._refuse(408, f"The request's head did not arrive within {self._limits.head_patience:g} seconds.")
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        self._refuse(431, f"The request line and headers are over {self._limits.head} bytes. Send fewer at once.")

    def _refuse(self, status: int, sentence: str) -> None:
        """Listen no more, answer the requests that could be read, then say what is wrong and hang up."""
        self._is_deaf = True
        self._unset_keepalive_if_required()
        self._stop_expecting()
        if self.transport.is_closing():
            return
        if self._active is not None and self._active.is_open:
            newest = self.cycle
            if not newest.more_body:
                newest.keep_alive = False  # whoever gets the answers before it needs no words about the rest
                return
            if newest is not self._active or newest.response_started:
                self.transport.close()
                return
            self._active.disconnect()
        self.transport.write(self._refusal(status, sentence))
        self._linger()

    def _refusal(self, status: int, sentence: str) -> bytes:
        error = {"code": "BAD_REQUEST", "message": sentence}
        body = json.dumps({"error": error}, separators=(",", ":")).encode() + b"\n"
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])

    def _linger(self) -> None:
        """Hang up once the client is silent: a socket that is closed with bytes unread takes our last words back."""
        try:
            self.transport.write_eof()
        except (NotImplementedError, OSError):  # TLS knows no such thing, and a client may be gone already
            self.transport.close()
        else:
            self.flow.resume_reading()
            self._patience = self.loop.call_later(_LINGER, self.transport.close)


def _origin_form(target: bytes) -> bytes:
    """`http://host/path?query` as proxies send it → `/path?query`."""
    _, scheme, rest = target.partition(b"://")
    slash = rest.find(b"/")
    return rest[slash:] if scheme and slash >= 0 else b"/"
