"""HTTP/1.1 over uvicorn's protocol, with what it lacks: files sent by the kernel, long request lines, bounded patience.

A handler sends part of a file with the ASGI message `http.response.zerocopysend` (`file`, `offset`, `count`,
`more_body`). `file` has to stay open until that send returns.
"""

import asyncio
import contextlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger("torz.http")

MAX_HEAD = 1 << 20
"""Bytes of request line and headers: 500 magnets fit, escaped."""
HEAD_PATIENCE = 30.0
"""Seconds in which a request's head has to arrive."""
ALONE = 4
"""Up to so many streams at once, slices are large."""
SLICE_ALONE, SLICE_SHARED = 1 << 20, 256 << 10
"""Bytes that are sent before others get their turn: small enough that 64 streams leave a request beside them quick."""
AHEAD = 8 << 20
"""Bytes that the kernel is asked to read ahead of a cold place."""
_DISK = ThreadPoolExecutor(8, "torz-cold-disk")
_PROBE = bytearray(1)


def is_warm(file: int, offset: int, count: int) -> bool:
    """Whether sending these bytes would not wait for a disk: their first and last page are in memory."""
    try:
        for at in (offset, offset + count - 1):
            os.preadv(file, [_PROBE], at, os.RWF_NOWAIT)
    except (OSError, AttributeError):  # cold, or the file system or the kernel cannot say
        return False
    return True


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    protocol: "Protocol"

    async def run_asgi(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as exc:  # the application has logged it; what is promised cannot be kept
            log.debug("%s %s was cut off: %s", self.scope["method"], self.scope["path"], exc)
            self.transport.abort()
        else:
            if not self.response_complete and not self.disconnected:
                self.transport.abort()
        finally:
            self.on_response = lambda: None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.zerocopysend":
            await self._send_file(message["file"], message.get("offset", 0), message["count"])
            message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
            if self.disconnected:
                return
        await super().send(message)

    async def _send_file(self, file: int, offset: int, count: int) -> None:
        if self.scope["method"] == "HEAD" or self.disconnected:
            return
        if not self.response_started or count > self.expected_content_length:
            raise RuntimeError("a file can only be sent within a Content-Length")
        await self._flush()
        await self.protocol.send_file(file, offset, count)
        self.expected_content_length -= count

    async def _flush(self) -> None:
        """What was written before has to be out before the kernel writes past it."""
        pause = 0.0
        while self.transport.get_write_buffer_size() and not self.disconnected:
            await asyncio.sleep(pause)
            pause = min(pause + 0.001, 0.02)


class Protocol(HttpToolsProtocol):
    """One connection."""

    streams = 0
    """How many connections are sending a file at this moment."""
    is_warm = staticmethod(is_warm)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = 0
        self._out = -1
        self._in_thread = False
        self._writable: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_expecting()
        self._wake()
        if not self._in_thread:
            self._close_out()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head >= 0:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.refuse(431, "Request Header Fields Too Large", "The request's head is over 1 MiB.")

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "Bad Request", "This is not HTTP/1.1.")

    def refuse(self, status: int, phrase: str, sentence: str) -> None:
        """Answer what is no request, and hang up."""
        if self.transport.is_closing():
            return
        error = {"code": "BAD_REQUEST", "message": phrase, "errors": [{"message": sentence}]}
        body = json.dumps({"error": error}, separators=(",", ":")).encode() + b"\n"
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if self.cycle is None or self.cycle.response_complete:  # else it would land within an answer
            self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._stop_expecting()
        version = self.parser.get_http_version()
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["extensions"] = {"http.response.zerocopysend": {}} if self.scheme == "http" else {}
        target = self.url if self.url.startswith(b"/") else _origin_form(self.url)
        path, _, query = target.partition(b"?")
        text = path.decode("latin-1")
        scope["path"] = unquote(text) if "%" in text else text
        scope["raw_path"] = path
        scope["query_string"] = query.partition(b"#")[0]
        before = self.cycle
        cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        cycle.protocol = self
        self.cycle = cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _should_upgrade(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """A request that offers to upgrade is answered as it is."""

    async def send_file(self, file: int, offset: int, count: int) -> None:
        """Send bytes of a file by the kernel. Raises ConnectionAbortedError when it ends before it should."""
        Protocol.streams += 1
        try:
            await self._send_slices(file, offset, offset + count)
        except (BrokenPipeError, ConnectionResetError):
            self.transport.abort()
            await asyncio.sleep(0)
        finally:
            Protocol.streams -= 1

    async def _send_slices(self, file: int, at: int, end: int) -> None:
        if self._out < 0:
            self._out = os.dup(self.transport.get_extra_info("socket").fileno())
        since_pause = 0
        while at < end and not self.cycle.disconnected:
            alone = Protocol.streams <= ALONE
            count = min(end - at, SLICE_ALONE if alone else SLICE_SHARED)
            try:
                sent = await self._send_slice(file, at, count)
            except BlockingIOError:
                await self._wait_writable()
                since_pause = 0
                continue
            if not sent:
                self.transport.abort()
                raise ConnectionAbortedError("the file is shorter than promised")
            at += sent
            since_pause += sent
            if at < end and (not alone or since_pause >= 4 * SLICE_ALONE):
                since_pause = 0
                await asyncio.sleep(0)

    async def _send_slice(self, file: int, at: int, count: int) -> int:
        if self.is_warm(file, at, count):
            return os.sendfile(self._out, file, at, count)
        with contextlib.suppress(OSError):
            os.posix_fadvise(file, at, AHEAD, os.POSIX_FADV_WILLNEED)
        self._in_thread = True
        working = self.loop.run_in_executor(_DISK, os.sendfile, self._out, file, at, count)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait({working})  # neither descriptor may be closed under the thread
            working.exception()
            raise
        finally:
            self._in_thread = False
            if self.cycle.disconnected:
                self._close_out()

    async def _wait_writable(self) -> None:
        if self.cycle.disconnected or self._out < 0:
            return
        self._writable = self.loop.create_future()
        self.loop.add_writer(self._out, self._wake)
        try:
            await self._writable
        finally:
            if self._out >= 0:
                self.loop.remove_writer(self._out)
            self._writable = None

    def _wake(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _close_out(self) -> None:
        if self._out >= 0:
            self.loop.remove_writer(self._out)
            os.close(self._out)
            self._out = -1

    def _expect_head(self) -> None:
        self._head = 0
        if self._patience is None:
            sentence = f"The request's head did not arrive within {HEAD_PATIENCE:g} seconds."
            self._patience = self.loop.call_later(HEAD_PATIENCE, self.refuse, 408, "Request Timeout", sentence)

    def _stop_expecting(self) -> None:
        self._head = -1
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def _origin_form(target: bytes) -> bytes:
    """`http://host/path?query` as proxies send it → `/path?query`."""
    _, scheme, rest = target.partition(b"://")
    slash = rest.find(b"/")
    return rest[slash:] if scheme and slash >= 0 else b"/"
