"""The wiring: what is made of what, in which order it starts, and in which it stops."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from torz.bus.socket import SocketNodeLink
from torz.config import Config
from torz.db.accounts import SqliteTorzRepo
from torz.db.secrets import SqliteSecretRepo
from torz.db.sqlite import Database
from torz.domain.errors import TorzError
from torz.http.docs import DocsHandlers
from torz.http.health import HealthHandlers
from torz.http.links import LinkHandlers
from torz.http.origin import Origin
from torz.http.routes import routes
from torz.http.server import Server
from torz.http.torz import TorzHandlers
from torz.http.typed import App
from torz.net.guard import Fetcher
from torz.ports.clock import SystemClock
from torz.ports.store import Store
from torz.services.adding import Adding
from torz.services.auth import Access, Auth, parse_store_auth, parse_users
from torz.services.firststart import FIRST_USER, make_credentials
from torz.services.local import LocalCredentials
from torz.services.logs import start_logging
from torz.services.passwords import Users
from torz.services.stores import Stores
from torz.services.streams import Streams
from torz.services.supervisor import Supervisor
from torz.stores import STORES
from torz.stores.embedded import EmbeddedStore

log = logging.getLogger("torz")

REQUESTS_GRACE = 3.0
"""Seconds that requests get to finish at a stop: all but long streams do, and containers are killed after ten."""
ENGINE_GRACE = 10.0
"""Seconds that the engine gets to write down what it knows."""
_LONGEST_SOCKET = 100
"""Characters of a unix socket's path that every system takes."""


class StartRefused(TorzError):
    """the server cannot start."""


def serve(config: Config) -> int:
    """Run the server until it is told to stop. The exit code."""
    listener = start_logging(config.log_level, config.log_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config))
    except (TorzError, OSError) as exc:
        print(f"torz: {exc}", file=sys.stderr)
        return 1
    finally:
        listener.stop()
    return 0


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config) as server:
        await _wait_for(stop, server)
        log.info("stopping")


async def _wait_for(stop: asyncio.Event, server: Server) -> None:
    """Until we are told to stop."""
    await stop.wait()


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Server]:
    """The whole server, from its lock to its last socket; stopped in the opposite order."""
    data = Path(config.data_dir)
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_locked(data))
        database = Database(data / "torz.db")
        await database.open()
        stack.push_async_callback(database.aclose)
        repo, secret_repo = SqliteTorzRepo(database), SqliteSecretRepo(database)

        names = [row.name for row in STORES]
        plain = parse_users(config.auth)
        if config.auth.strip() and not plain:
            raise StartRefused("TORZ_AUTH has no user in it. It is a list of user:password.")
        made = None if plain else await make_credentials(secret_repo)
        users = Users(plain, {} if plain else await secret_repo.users())
        auth = Auth(users, parse_store_auth(config.store_auth, names), names)

        socket = stack.enter_context(_socket_path(data))
        node = SocketNodeLink(socket, clock)
        supervisor = Supervisor("the engine", _node_command(data, socket), _node_environ(config), clock)
        supervisor.start()
        stack.push_async_callback(supervisor.stop, ENGINE_GRACE)
        await node.start()
        stack.push_async_callback(node.aclose)

        link_key = await secret_repo.secret("direct links")
        embedded = EmbeddedStore(repo, node, clock, link_key, config.check_cache)

        async def open_embedded(access: Access) -> Store:
            return embedded.account(await auth.account(access))

        stores = Stores({"torz": open_embedded})
        fetcher = Fetcher(config.fetch_allow, config.fetch_timeout)
        adding = Adding(fetcher, config.torrent_file_max_size)
        origin = Origin(config.base_url, config.trusted_proxies)
        streams = Streams(repo, node, clock, link_key, data / "torrents", config.stream_patience)
        docs = DocsHandlers()
        table = routes(
            TorzHandlers(adding, origin),
            TorzHandlers(adding, origin, legacy=True),
            LinkHandlers(streams),
            HealthHandlers(auth, node, clock, origin),
            docs,
        )
        docs.describe(table)

        server = Server(App(table, auth, stores, adding.max_size), list(config.host), config.port)
        await server.start()
        stack.push_async_callback(server.stop, REQUESTS_GRACE)
        address = _address(config, server.port)
        local = LocalCredentials.make(users.names[0] if users.names else FIRST_USER, address)
        users.add_local(local.user, local.password)
        stack.enter_context(local.written(data))
        _greet(address, made.user if made else "", made.password if made else "")
        log.info("listening on %s", address)
        yield server


def _greet(address: str, user: str, password: str) -> None:
    """Where we are, and, once in a life, the credentials. They go to the terminal and to no log."""
    lines = [f"Torz listens on {address}"]
    if user:
        lines += [
            "",
            "These are your credentials. They are shown this once and kept only as a hash:",
            f"  user      {user}",
            f"  password  {password}",
            f"  header    X-StremThru-Authorization: Basic {_basic(user, password)}",
            "Programs on this machine that may read the data folder, such as the torz command, need none.",
            "",
        ]
    print("\n".join(lines), flush=True)


def _basic(user: str, password: str) -> str:
    from base64 import b64encode

    return b64encode(f"{user}:{password}".encode()).decode()


def _address(config: Config, port: int) -> str:
    host = config.host[0] if config.host else "127.0.0.1"
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


@contextlib.contextmanager
def _locked(data: Path):  # type: ignore[no-untyped-def]
    """The data folder, for us alone."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = (data / "server.lock").open("w")
    except OSError as exc:
        raise StartRefused(f"The data folder {data} cannot be used: {exc.strerror}. Set TORZ_DATA_DIR.") from exc
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise StartRefused(f"Another Torz uses the data folder {data}. Stop it, or set TORZ_DATA_DIR.") from exc
        yield


@contextlib.contextmanager
def _socket_path(data: Path):  # type: ignore[no-untyped-def]
    """Where the node listens: in the data folder, or, if that name is too long for a socket, in a folder of our own."""
    path = data / "node.sock"
    if len(str(path)) <= _LONGEST_SOCKET:
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="torz-") as folder:
            yield Path(folder) / "node.sock"


def _node_command(data: Path, socket: Path) -> list[str]:
    return [sys.executable, "-m", "torz.node", "--data-dir", str(data), "--socket", str(socket)]


def _node_environ(config: Config) -> dict[str, str]:
    """The settings without the secrets, which the node has no use for."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TORZ_", "STREMTHRU_"))}
    return {**inherited, **config.environ()}
