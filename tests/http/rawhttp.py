"""A client that says exactly what a test tells it to, and reads no faster."""

import asyncio
import json
import socket
import struct
from types import TracebackType
from typing import Any, NamedTuple, Self

PATIENCE = 20
_READ = 1 << 18


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> bytes:
    if body:
        headers["content_length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", "Host: torz"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Peer:
    """One connection. Everything it waits for has a timeout."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._read = b""

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1", *, buffer: int = 0) -> Self:
        """With a receive buffer of so many bytes, when the server is to feel how slow we are."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setblocking(False)
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Hang up as a crash does."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        self._sock.close()

    async def send(self, *parts: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            for part in parts:
                await self._loop.sock_sendall(self._sock, part)

    async def ask(self, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        await self.send(request(target, method, body, **headers))
        return await self.answer(method)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers, their names in lower case."""
        while b"\r\n\r\n" not in self._read:
            if not await self._more():
                raise EOFError(self._read)
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def answer(self, method: str = "GET") -> Answer:
        """A whole answer, whose length its head tells."""
        status, headers = await self.head()
        body = b"" if method == "HEAD" else await self.read(int(headers.get("content-length", 0)))
        return Answer(status, headers, body)

    async def read(self, count: int) -> bytes:
        """So many bytes. Raises EOFError when the server hangs up before."""
        parts, missing = [self._read[:count]], count - len(self._read)
        self._read = self._read[count:]
        while missing > 0:
            async with asyncio.timeout(PATIENCE):
                part = await self._loop.sock_recv(self._sock, min(missing, _READ))
            if not part:
                raise EOFError(count - missing)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def rest(self) -> bytes:
        """All until the server hangs up, in whatever way."""
        try:
            while await self._more():
                pass
        except ConnectionResetError:
            pass
        rest, self._read = self._read, b""
        return rest

    async def _more(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            part = await self._loop.sock_recv(self._sock, _READ)
        self._read += part
        return bool(part)
