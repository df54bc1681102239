"""A node without an engine, and a server's inside without a socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from torz.db.accounts import SqliteTorzRepo
from torz.db.nodes import SqliteNodeRepo
from torz.db.sqlite import Database
from torz.domain.errors import FetchRefused, Unavailable
from torz.http.docs import DocsHandlers
from torz.http.health import HealthHandlers
from torz.http.links import LinkHandlers
from torz.http.origin import Origin
from torz.http.routes import routes
from torz.http.torz import TorzHandlers
from torz.http.typed import App
from torz.ports.clock import SystemClock
from torz.ports.node import Changed, Command, Event, PieceMap, Progress, Vitals, Watch
from torz.ports.store import Store
from torz.services.adding import Adding
from torz.services.auth import Access, Auth, parse_store_auth
from torz.services.passwords import Users
from torz.services.stores import Stores
from torz.services.streams import Streams
from torz.stores.embedded import EmbeddedStore
from torz.stores.memory import Memory


class FakeNode:
    """A NodeLink that says what a test tells it to."""

    def __init__(self) -> None:
        self.alive = True
        self.vitals: Vitals | None = Vitals("engine 1")
        self.nudges = 0
        self.said: dict[bytes, Progress] = {}
        self.maps: dict[bytes, PieceMap] = {}
        self.commands: list[Command] = []
        self._listeners: list[Callable[[Event | None], None]] = []

    def progress(self, hash: bytes) -> Progress | None:
        return self.said.get(hash)

    def nudge(self) -> None:
        self.nudges += 1

    async def call(self, command: Command) -> PieceMap | None:
        if not self.alive:
            raise Unavailable
        self.commands.append(command)
        if isinstance(command, Watch):
            if command.hash not in self.maps:
                raise Unavailable
            return self.maps[command.hash]
        return None

    def listen(self, listener: Callable[[Event | None], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def say(self, event: Event | None) -> None:
        for listener in list(self._listeners):
            listener(event)


class FakeFetcher:
    """URLs that lead to bytes, to a magnet, or nowhere."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | str] = {}

    async def get(self, url: str, max_size: int) -> bytes | str:
        if url not in self.answers:
            raise FetchRefused.at("link", "body", "unable to fetch torrent file", hint="Nothing is there.")
        return self.answers[url]


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.status < 300, self.body
        return self.json["data"]


class Inside:
    """The application with real rows, a fake node and no socket."""

    def __init__(self, database: Database, root: Path, store_auth: str, patience: float) -> None:
        self.node = FakeNode()
        self.fetcher = FakeFetcher()
        self.node_repo = SqliteNodeRepo(database)
        self.root = root
        self.memory: dict[str, Memory] = {}
        names = ("torz", "realdebrid")
        repo = SqliteTorzRepo(database)
        users = Users({"ann": "secret", "bob": "secret"}, {})
        auth = Auth(users, parse_store_auth(store_auth, names), names)
        embedded = EmbeddedStore(repo, self.node, SystemClock(), bytes(32), 1 << 20)

        async def open_embedded(access: Access) -> Store:
            return embedded.account(await auth.account(access))

        async def open_memory(access: Access) -> Store:
            return self.memory.setdefault(access.token or "", Memory())

        adding = Adding(self.fetcher, 1 << 20)
        origin = Origin("", ())
        docs = DocsHandlers()
        streams = Streams(repo, self.node, SystemClock(), bytes(32), root, patience)
        table = routes(
            TorzHandlers(adding, origin),
            TorzHandlers(adding, origin, legacy=True),
            LinkHandlers(streams),
            HealthHandlers(auth, self.node, SystemClock(), origin),
            docs,
        )
        docs.describe(table)
        stores = Stores({"torz": open_embedded, "realdebrid": open_memory})
        self.app = App(table, auth, stores, adding.max_size)

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        user: str | None = "ann",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request, on behalf of a user whose password is `secret`."""
        path, _, query = target.partition("?")
        sent = {"host": "torz.example:8679"}
        if user:
            sent["x-stremthru-authorization"] = f"{user}:secret"
        if isinstance(body, dict):
            body, sent["content-type"] = json.dumps(body).encode(), "application/json"
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(n.encode(), v.encode("latin-1")) for n, v in sent.items()],
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8679),
            "extensions": {},
        }
        incoming = [{"type": "http.request", "body": body or b"", "more_body": False}]
        sent_back: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await asyncio.Event().wait()
            return {}

        async def send(message: Any) -> None:
            sent_back.append(message)

        await self.app(scope, receive, send)
        found = {name.decode().lower(): value.decode("latin-1") for name, value in sent_back[0]["headers"]}
        return Answer(sent_back[0]["status"], found, b"".join(m.get("body", b"") for m in sent_back[1:]))

    async def finish(self, hash: bytes) -> None:
        """What the node does when a torrent is complete."""
        await self.node_repo.complete(hash, 1)
        self.node.say(Changed(hash))


@asynccontextmanager
async def inside(folder: Path, store_auth: str = "", patience: float = 0.5) -> AsyncIterator[Inside]:
    database = Database(folder / "torz.db")
    await database.open()
    try:
        yield Inside(database, folder / "torrents", store_auth, patience)
    finally:
        await database.aclose()
