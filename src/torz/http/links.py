"""Direct links: a file, or parts of it, sent by the kernel, also while it is still being downloaded."""

import asyncio
import contextlib
import mimetypes
import os
import secrets
from collections.abc import Coroutine, Sequence
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from starlette.types import Receive, Send

from torz.domain.byterange import ByteRange, parse_range
from torz.domain.errors import RangeNotSatisfiable, TorzError
from torz.http.typed import HungUp, Request, send_start
from torz.services.streams import Reading, Stream, Streams

_TYPES = {
    ".mkv": "video/x-matroska",
    ".mka": "audio/x-matroska",
    ".m2ts": "video/mp2t",
    ".ts": "video/mp2t",
    ".srt": "application/x-subrip",
    ".ass": "text/x-ssa",
    ".ssa": "text/x-ssa",
    ".vtt": "text/vtt",
    ".nfo": "text/plain",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".m4v": "video/mp4",
    ".mp4": "video/mp4",
}
_ACTIVE = (
    "text/html",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/javascript",
    "application/javascript",
    "text/xml",
)
"""What a browser would run on our own origin; sent as plain bytes."""


_CHUNK = 1 << 20
"""Bytes that are read at once where the kernel cannot copy for us."""


class LinkHandlers:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def fetch(self, request: Request, send: Send) -> None:
        stream = await self._streams.open(request.params["token"])
        if _is_unchanged(request, stream):
            await _send_head(send, request, 304, _about(stream))
            return
        try:
            ranges = _ranges(request, stream)
        except RangeNotSatisfiable:
            headers = {"Content-Range": f"bytes */{stream.size}", "Content-Length": "0"}
            await _send_head(send, request, 416, {**_about(stream), **headers})
            return
        await _Answer(request, send, stream, ranges).run()


class _Answer:
    """One answer: the whole file, one part of it, or several."""

    def __init__(self, request: Request, send: Send, stream: Stream, ranges: Sequence[ByteRange] | None) -> None:
        self._request = request
        self._send = send
        self._stream = stream
        self._ranges = ranges
        self._can_copy = "http.response.zerocopysend" in request.scope.get("extensions", {})

    async def run(self) -> None:
        status, headers, parts, end = self._plan()
        if self._request.method == "HEAD" or not any(part.size for _, part in parts):
            await _send_head(self._send, self._request, status, headers)
            return
        async with self._stream.reading() as reading, _Gone(self._request.receive, reading.waits) as self._gone:
            # Nothing is promised before the first bytes are there: until then a failure has a status of its own.
            first = next(part for _, part in parts if part.size)
            await self._ready(reading, first.start, first.end)
            await send_start(self._send, self._request, status, headers)
            for prefix, part in parts:
                if prefix:
                    await self._send({"type": "http.response.body", "body": prefix, "more_body": True})
                await self._send_part(reading, part, more=bool(end))
            if end:
                await self._send({"type": "http.response.body", "body": end})

    def _plan(self) -> tuple[int, dict[str, str], list[tuple[bytes, ByteRange]], bytes]:
        """Status, headers, the parts with what goes before each, and what goes behind them all."""
        size, about = self._stream.size, _about(self._stream)
        if self._ranges is None:
            return 200, {**about, "Content-Length": str(size)}, [(b"", ByteRange(0, size))], b""
        if len(self._ranges) == 1:
            part = self._ranges[0]
            headers = {"Content-Length": str(part.end - part.start), "Content-Range": _content_range(part, size)}
            return 206, {**about, **headers}, [(b"", part)], b""
        boundary = secrets.token_hex(12)
        parts = [(_part_head(boundary, about["Content-Type"], part, size), part) for part in self._ranges]
        end = f"\r\n--{boundary}--\r\n".encode()
        length = sum(len(head) + part.end - part.start for head, part in parts) + len(end)
        headers = {"Content-Type": f"multipart/byteranges; boundary={boundary}", "Content-Length": str(length)}
        return 206, {**about, **headers}, parts, end

    async def _send_part(self, reading: Reading, part: ByteRange, *, more: bool) -> None:
        at = part.start
        while at < part.end:
            try:
                until = await self._ready(reading, at, part.end)
            except TorzError as exc:
                raise HungUp(exc.message) from exc  # nothing is padded: what is promised and missing ends here
            await self._send_bytes(reading.fd, at, until, more=more or until < part.end)
            at = until

    async def _ready(self, reading: Reading, start: int, end: int) -> int:
        """Wait for bytes to send, unless the client goes away meanwhile."""
        if not reading.waits:
            return await reading.ready(start, end)
        return await self._gone.unless(reading.ready(start, end))

    async def _send_bytes(self, fd: int, start: int, end: int, *, more: bool) -> None:
        if self._can_copy:
            await self._send(
                {
                    "type": "http.response.zerocopysend",
                    "file": fd,
                    "offset": start,
                    "count": end - start,
                    "more_body": more,
                }
            )
            return
        while start < end:
            data = await asyncio.to_thread(os.pread, fd, min(_CHUNK, end - start), start)
            if not data:
                raise HungUp("the file became shorter")
            start += len(data)
            await self._send({"type": "http.response.body", "body": data, "more_body": more or start < end})


class _Gone:
    """Notices when a client goes away while we wait for something to send."""

    def __init__(self, receive: Receive, waits: bool) -> None:
        self._receive = receive
        self._waits = waits

    async def __aenter__(self) -> "_Gone":
        if self._waits:
            self._left = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._waits:
            self._left.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._left

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def unless(self, wait: Coroutine[None, None, int]) -> int:
        """The result of `wait`. Raises HungUp when the client leaves first."""
        waiting = asyncio.ensure_future(wait)
        try:
            await asyncio.wait({waiting, self._left}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            raise HungUp("the client went away")
        finally:
            if not waiting.done():
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting


async def _send_head(send: Send, request: Request, status: int, headers: dict[str, str]) -> None:
    await send_start(send, request, status, headers)
    await send({"type": "http.response.body", "body": b""})


def _about(stream: Stream) -> dict[str, str]:
    """What is true of the file however much of it is asked for."""
    modified = {"Last-Modified": format_datetime(stream.modified, usegmt=True)} if stream.modified else {}
    return {
        "Content-Type": media_type(stream.name),
        "Content-Disposition": disposition(stream.name),
        "Accept-Ranges": "bytes",
        "ETag": stream.etag,
        **modified,
        "Cache-Control": "private, no-transform",
        "X-Content-Type-Options": "nosniff",
    }


def media_type(name: str) -> str:
    """By the extension; what a browser would run is called plain bytes."""
    suffix = "." + name.lower().rpartition(".")[2] if "." in name else ""
    guessed = _TYPES.get(suffix) or mimetypes.guess_type("x" + suffix)[0] or "application/octet-stream"
    return "application/octet-stream" if guessed in _ACTIVE else guessed


def disposition(name: str) -> str:
    """Played where it can be, saved under its name: RFC 6266, with UTF-8 and a plain form for old clients."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _is_unchanged(request: Request, stream: Stream) -> bool:
    if tags := request.headers.get("if-none-match"):
        return tags.strip() == "*" or stream.etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    since = _date(request.headers.get("if-modified-since", ""))
    return bool(since is not None and stream.modified and stream.modified.timestamp() <= since)


def _ranges(request: Request, stream: Stream) -> Sequence[ByteRange] | None:
    """The parts asked for; None for the whole. Raises RangeNotSatisfiable."""
    header = request.headers.get("range")
    if header is None:
        return None
    validator = request.headers.get("if-range")
    if validator is not None and not _matches(validator.strip(), stream):
        return None
    return parse_range(header, stream.size)


def _matches(validator: str, stream: Stream) -> bool:
    if validator.startswith(('"', "W/")):
        return validator == stream.etag
    since = _date(validator)
    return bool(since is not None and stream.modified and int(stream.modified.timestamp()) == int(since))


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _content_range(part: ByteRange, size: int) -> str:
    return f"bytes {part.start}-{part.end - 1}/{size}"


def _part_head(boundary: str, type: str, part: ByteRange, size: int) -> bytes:
    return (f"\r\n--{boundary}\r\nContent-Type: {type}\r\nContent-Range: {_content_range(part, size)}\r\n\r\n").encode()
