"""The HTTP server, inside a running loop: bound before it says so, stopped without cutting anybody off too soon."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from torz.http.protocol import Limits, Protocol, Sending, is_warm

log = logging.getLogger("torz.http")

BACKLOG = 2048
_LAST_WORDS = 5.0
"""Seconds in which a cancelled request has to end."""


class Server:
    """Serves an application on some addresses, all on one port. It starts once and stops once."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        port: int,
        *,
        limits: Limits | None = None,
        is_warm: Callable[[int, int, int], bool] = is_warm,
    ) -> None:
        """Port 0 takes a free one; `port` tells which, once started."""
        self.port = port
        self._hosts = hosts
        self._limits = limits or Limits()
        self._config = Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # whom to believe is decided in http/origin.py
            timeout_keep_alive=self._limits.idle_patience,  # type: ignore[arg-type]  # a float does as well
        )
        self._state = ServerState()
        self._sending = Sending(is_warm)
        self._servers: list[asyncio.Server] = []
        self._lost = asyncio.Event()
        self._tick: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Bind every address, then answer. Raises OSError, with a sentence, when one of them cannot be had."""
        self._config.load()
        self._tell_date()
        loop = asyncio.get_running_loop()
        try:
            with contextlib.ExitStack() as taken:
                listeners = []
                for host in self._hosts:
                    listeners.append(taken.enter_context(contextlib.closing(_listen(host, self.port))))
                    self.port = listeners[0].getsockname()[1]
                for listener in listeners:
                    made = await loop.create_server(self._connection, sock=listener, backlog=BACKLOG)
                    self._servers.append(made)
                taken.pop_all()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace: float) -> None:
        """Take no more connections, let requests finish for so many seconds, then hang up on the rest."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if not await self._ended(grace):
            for connection in list(self._state.connections):
                connection.transport.abort()
            for task in list(self._state.tasks):
                task.cancel()
            if not await self._ended(_LAST_WORDS):
                log.error("%d requests do not end", len(self._state.tasks))
        if self._tick:
            self._tick.cancel()
        self._sending.threads.shutdown(wait=False)

    async def _ended(self, patience: float) -> bool:
        """Whether all connections and requests end within so many seconds."""
        try:
            async with asyncio.timeout(patience):
                while self._state.connections:
                    self._lost.clear()
                    await self._lost.wait()
                if self._state.tasks:
                    await asyncio.wait(self._state.tasks)
        except TimeoutError:
            return False
        return True

    def _connection(self) -> Protocol:
        loop = asyncio.get_running_loop()
        return Protocol(self._config, self._state, loop, self._limits, self._sending, self._lost.set)

    def _tell_date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
        self._tick = asyncio.get_running_loop().call_later(1, self._tell_date)


def _listen(host: str, port: int) -> socket.socket:
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
        listener.listen(BACKLOG)  # only this tells for sure that nobody else has the port
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise OSError(f"Cannot listen on {host} port {port}: {exc.strerror}. Set TORZ_PORT to a free one.") from exc
    return listener
