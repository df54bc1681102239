"""The engine is away, or goes at any moment: every route answers as documented, and nothing is lost."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from stories import DATA, FILM, HASH, TORZ, UPLOAD, Refused, prepare, read

from fakes import FakeNode, Inside, inside
from torrents import GREETING
from torz.db.accounts import SqliteTorzRepo
from torz.db.sqlite import Database
from torz.domain.errors import Unavailable
from torz.http.links import LinkHandlers
from torz.http.typed import App, Entry, Route
from torz.ports.clock import SystemClock
from torz.ports.node import Command, PieceMap, Unwatch
from torz.services.streams import Streams

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path, patience=0.3) as made:
        yield made


class Ask(NamedTuple):
    route: str
    target: str
    status: int
    body: Any = None


ASKS = (
    Ask("POST /v0/store/torz", TORZ, 201, {"link": str(GREETING.hash)}),
    Ask("GET /v0/store/torz", TORZ, 200),
    Ask("GET /v0/store/torz/check", f"{TORZ}/check?hash={FILM.hash}", 200),
    Ask("GET /v0/store/torz/{id}", TORZ + "/{id}", 200),
    Ask("POST /v0/store/torz/link/generate", TORZ + "/link/generate", 200, {"link": "{link}"}),
    Ask("GET /v0/store/user", "/v0/store/user", 200),
    Ask("POST /v0/store/magnets", "/v0/store/magnets", 201, {"magnet": str(GREETING.hash)}),
    Ask("GET /v0/store/magnets", "/v0/store/magnets", 200),
    Ask("GET /v0/store/magnets/check", f"/v0/store/magnets/check?magnet={FILM.hash}", 200),
    Ask("POST /v0/store/magnets/check", "/v0/store/magnets/check", 401, {}),
    Ask("GET /v0/store/magnets/{id}", "/v0/store/magnets/{id}", 200),
    Ask("POST /v0/store/link/generate", "/v0/store/link/generate", 200, {"link": "{link}"}),
    Ask("GET /v0/link/{token}/{name}", "{url}", 503),
    Ask("GET /v0/link/{token}", "{bare}", 503),
    Ask("GET /v0/store/_/static/{name}", "/v0/store/_/static/500", 200),
    Ask("GET /v0/health", "/v0/health", 200),
    Ask("GET /v0/health/__debug__", "/v0/health/__debug__", 200),
    Ask("GET /openapi.json", "/openapi.json", 200),
    Ask("GET /docs", "/docs", 200),
    Ask("GET /", "/", 307),
    Ask("DELETE /v0/store/torz/{id}", TORZ + "/{id}", 200),
    Ask("DELETE /v0/store/magnets/{id}", "/v0/store/magnets/{id}", 200),
)
"""Every route, and what it answers without an engine about a torz whose download has not ended."""


async def test_the_table_has_every_route(api: Inside) -> None:
    assert {ask.route for ask in ASKS} == {f"{route.method} {route.path}" for route in api.app.routes}


async def held(api: Inside) -> dict[str, str]:
    """A torz on its way, and what stands for it in the table."""
    torz = (await api.ask("POST", TORZ, *UPLOAD[:1], headers=UPLOAD[1])).data
    await prepare(api, complete=False)
    file = (await api.ask("GET", f"{TORZ}/{torz['id']}")).data["files"][0]["link"]
    link: str = (await api.ask("POST", f"{TORZ}/link/generate", {"link": file})).data["link"]
    url = link.removeprefix("http://torz.example:8679")
    return {"{id}": torz["id"], "{link}": file, "{url}": url, "{bare}": url.rpartition("/")[0]}


def filled(text: Any, values: dict[str, str]) -> Any:
    if isinstance(text, dict):
        return {key: filled(value, values) for key, value in text.items()}
    for key, value in values.items():
        text = text.replace(key, value) if text else text
    return text


@pytest.mark.parametrize("ask", ASKS, ids=[ask.route for ask in ASKS])
async def test_every_route_answers_as_documented_while_the_engine_is_away(api: Inside, ask: Ask) -> None:
    values = await held(api)
    api.node.alive = False
    api.node.vitals = None
    api.node.said.clear()
    api.node.say(None)
    user = None if "/v0/link/" in ask.route else "ann"
    answer = await api.ask(ask.route.split()[0], filled(ask.target, values), filled(ask.body, values), user=user)
    assert answer.status == ask.status, answer.body
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json["error"]["code"] == "SERVICE_UNAVAILABLE"
    left = (await api.ask("GET", TORZ)).data["items"]
    assert (values["{id}"] in {item["id"] for item in left}) is not ask.route.startswith("DELETE")


async def test_what_is_asked_of_an_engine_that_is_away_is_there_when_it_is_back(api: Inside) -> None:
    api.node.alive = False
    before = api.node.nudges
    added = (await api.ask("POST", TORZ, {"link": str(GREETING.hash)})).data
    gone = (await api.ask("POST", TORZ, {"link": str(FILM.hash)})).data
    await api.ask("DELETE", f"{TORZ}/{gone['id']}")
    assert api.node.nudges == before + 3
    wanted = {row.hash: row.wanted for row in await api.node_repo.desired(0)}
    assert wanted == {GREETING.hash.raw: True, HASH: False}
    assert "engine is starting" in (await api.ask("GET", f"{TORZ}/{added['id']}")).data["transfer"]["message"]


async def test_a_finished_file_is_read_without_any_engine(api: Inside) -> None:
    values = await held(api)
    await api.finish(HASH)
    api.node.alive = False
    api.node.say(None)
    assert (await api.ask("GET", values["{url}"], user=None)).body == DATA
    [item] = (await api.ask("GET", f"{TORZ}/check?hash={FILM.hash}")).data["items"]
    assert item["status"] == "cached"


@asynccontextmanager
async def streaming(folder: Path, node: FakeNode) -> AsyncIterator[tuple[Inside, str]]:
    """A direct link to a growing file whose every piece is there, over this node."""
    database = Database(folder / "torz.db")
    await database.open()
    try:
        api = Inside(database, folder / "torrents", "", 0.3)
        url = (await held(api))["{bare}"]
        node.maps = api.node.maps
        streams = Streams(SqliteTorzRepo(database), node, SystemClock(), bytes(32), api.root, 0.3)
        route = Route("GET", "/v0/link/{token}", LinkHandlers(streams).fetch, "", streams=True)
        route.entry = Entry.OPEN
        api.app = App((route,), api.app.auth, api.app.stores, 1)
        yield api, url
    finally:
        await database.aclose()


class Breaking(FakeNode):
    """A node that goes at one call and is back for the next, or stays away."""

    def __init__(self) -> None:
        super().__init__()
        self.heal()

    def break_at(self, call: int, *, for_good: bool) -> None:
        self.calls, self.fail_at, self.failed, self.for_good = itertools.count(), call, False, for_good
        self.commands.clear()

    def heal(self) -> None:
        self.break_at(-1, for_good=False)
        self.alive = True

    async def call(self, command: Command) -> PieceMap | None:
        if next(self.calls) == self.fail_at:
            self.failed = True
            self.alive = not self.for_good
            self.say(None)
            raise Unavailable
        return await super().call(command)


class Hanging(FakeNode):
    """A node that takes commands and never says a word."""

    async def call(self, command: Command) -> PieceMap | None:
        await super().call(command)
        return await asyncio.Future()


async def test_an_engine_that_hangs_costs_a_reader_its_patience_and_no_more(tmp_path: Path) -> None:
    async with streaming(tmp_path, node := Hanging()) as (api, url):
        async with asyncio.timeout(4):  # 0.3 of patience, and a second of courtesy for each of two farewells
            answer = await api.ask("GET", url, user=None)
        assert answer.status == 503
        assert isinstance(node.commands[-1], Unwatch)


@pytest.mark.parametrize("for_good", [False, True], ids=["for a moment", "for good"])
async def test_an_engine_that_goes_at_any_call_of_a_stream_costs_no_byte(tmp_path: Path, for_good: bool) -> None:
    async with streaming(tmp_path, node := Breaking()) as (api, url):
        for call in itertools.count():
            node.break_at(call, for_good=for_good)
            with suppress(Refused):
                await read(api, url)
            if not node.failed:
                break
            node.heal()
            await read(api, url)
            assert isinstance(node.commands[-1], Unwatch), "a reader that left is still followed"
        assert call >= 4, "a stream makes at least Watch, Read, Unread and Unwatch"
