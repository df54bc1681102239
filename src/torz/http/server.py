"""The HTTP server, inside a running loop: bound before it says so, stopped without cutting anybody off too soon."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from email.utils import formatdate

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from torz.http.protocol import Protocol

IDLE_PATIENCE = 75
"""Seconds that a connection may wait for its next request."""
BACKLOG = 2048


class Server:
    """Serves an application on some addresses, all on one port."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str], port: int) -> None:
        """Port 0 takes a free one; `port` tells which, once started."""
        self.port = port
        self._hosts = hosts
        self._config = Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=IDLE_PATIENCE,
        )
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._date: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and listen. Raises OSError, with a sentence, when an address cannot be had."""
        self._config.load()
        loop = asyncio.get_running_loop()
        self._tell_date()
        for host in self._hosts:
            listener = _bind(host, self.port)
            self.port = listener.getsockname()[1]
            made = await loop.create_server(
                lambda: Protocol(self._config, self._state, {}, loop), sock=listener, backlog=BACKLOG
            )
            self._servers.append(made)
        self._date = asyncio.create_task(self._keep_date(), name="date header")

    async def stop(self, grace: float) -> None:
        """Take no more connections, let requests finish for so many seconds, then hang up on the rest."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._state.connections or self._state.tasks:
                    await asyncio.sleep(0.02)
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._date:
            self._date.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._date

    async def _keep_date(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._tell_date()

    def _tell_date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise OSError(f"TORZ_HOST: {host} is no address of this machine: {exc.strerror or exc}.") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise OSError(f"Cannot listen on {host} port {port}: {exc.strerror}. Set TORZ_PORT to a free one.") from exc
    return listener
