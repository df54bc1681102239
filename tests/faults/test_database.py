"""The database is busy, full, or breaks at any call: a documented answer, and all as it was when it is well again."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import apsw
import pytest
from stories import FILM, HASH, TORZ, UPLOAD, Refused, prepare, tidy, whole_story

from fakes import Inside
from torrents import GREETING
from torz.db.sqlite import Database

pytestmark = pytest.mark.anyio
T = TypeVar("T")


class Breaking(Database):
    """Fails at one call: before it does anything, or after it did it all and before it says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.heal()

    def break_at(self, call: int, fault: type[Exception], *, done: bool) -> None:
        self.calls, self.fail_at, self.fault, self.done, self.failed = itertools.count(), call, fault, done, False

    def heal(self) -> None:
        self.break_at(-1, apsw.Error, done=False)

    async def read(self, ask: Callable[[apsw.Connection], T]) -> T:
        return await super().read(self._breaking(ask))

    async def write(self, change: Callable[[apsw.Connection], T]) -> T:
        if not self.done:
            return await super().write(self._breaking(change))
        given = await super().write(change)
        self._fail_if_due()
        return given

    def _breaking(self, run: Callable[[apsw.Connection], T]) -> Callable[[apsw.Connection], T]:
        def broken(connection: apsw.Connection) -> T:
            given = run(connection)
            self._fail_if_due()
            return given

        return broken

    def _fail_if_due(self) -> None:
        if next(self.calls) == self.fail_at:
            self.failed = True
            raise self.fault("disk I/O error in /secret/torz.db")


@asynccontextmanager
async def api_over(database: Database, folder: Path) -> AsyncIterator[Inside]:
    await database.open()
    try:
        yield Inside(database, folder / "torrents", "", 0.5)
    finally:
        await database.aclose()


FAULTS = (apsw.BusyError, apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError)


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done but not told"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_no_fault_at_any_call_breaks_a_story(tmp_path: Path, fault: type[Exception], done: bool) -> None:
    database = Breaking(tmp_path / "torz.db")
    async with api_over(database, tmp_path) as api:
        for call in itertools.count():
            await api.ask("POST", TORZ, UPLOAD[0], user="bob", headers=UPLOAD[1])
            await prepare(api, complete=True)
            database.break_at(call, fault, done=done)
            with suppress(Refused):
                await whole_story(api)
            if not database.failed:
                break
            database.heal()
            await tidy(api)
            await whole_story(api)
        assert call >= 8, "a story has more calls than that"


async def test_reading_goes_on_while_somebody_else_writes(tmp_path: Path) -> None:
    async with api_over(Database(tmp_path / "torz.db"), tmp_path) as api:
        id = (await api.ask("POST", TORZ, {"link": str(FILM.hash)})).data["id"]
        other = apsw.Connection(str(tmp_path / "torz.db"))
        try:
            other.execute("begin immediate")
            adding = asyncio.create_task(api.ask("POST", TORZ, {"link": str(GREETING.hash)}))
            async with asyncio.timeout(5):
                for target in (TORZ, f"{TORZ}/{id}", f"{TORZ}/check?hash={FILM.hash}", "/v0/health"):
                    assert (await api.ask("GET", target)).status == 200
            assert not adding.done()
            other.execute("commit")
            assert (await adding).status == 201
        finally:
            other.close()


async def test_a_write_that_fails_leaves_no_transaction_open(tmp_path: Path) -> None:
    database = Breaking(tmp_path / "torz.db")
    async with api_over(database, tmp_path) as api:
        database.break_at(0, apsw.FullError, done=False)
        assert (await api.ask("POST", TORZ, {"link": str(FILM.hash)})).status in (500, 503)
        database.heal()
        assert (await api.ask("GET", TORZ)).data["total_items"] == 0
        assert (await api.ask("POST", TORZ, {"link": str(FILM.hash)})).status == 201
        assert [row.hash for row in await api.node_repo.desired(0)] == [HASH]


@pytest.mark.parametrize("fault", [apsw.BusyError, apsw.FullError])
async def test_a_database_that_cannot_now_asks_to_come_back(tmp_path: Path, fault: type[Exception]) -> None:
    database = Breaking(tmp_path / "torz.db")
    async with api_over(database, tmp_path) as api:
        for method, target, body in (("POST", TORZ, {"link": str(FILM.hash)}), ("GET", TORZ, None)):
            database.break_at(0, fault, done=False)
            answer = await api.ask(method, target, body)
            assert (answer.status, answer.json["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json["error"]["hint"].endswith(".")


async def test_a_disk_that_is_really_full_refuses_adds_serves_reads_and_recovers(tmp_path: Path) -> None:
    database = Database(tmp_path / "torz.db")
    async with api_over(database, tmp_path) as api:
        first = (await api.ask("POST", TORZ, {"link": str(FILM.hash)})).data["id"]
        pages = await database.write(lambda connection: connection.execute("pragma page_count").fetchall()[0][0])
        await database.write(lambda connection: connection.execute(f"pragma max_page_count={pages}").fetchall())
        magnet = f"magnet:?xt=urn:btih:{'7' * 40}&dn=" + "x" * 60_000
        answer = await api.ask("POST", TORZ, {"link": magnet})
        assert (answer.status, answer.json["error"]["message"]) == (503, "the server's disk is full")
        assert [item["id"] for item in (await api.ask("GET", TORZ)).data["items"]] == [first]
        await database.write(lambda connection: connection.execute("pragma max_page_count=1000000").fetchall())
        assert (await api.ask("POST", TORZ, {"link": magnet})).status == 201


async def test_a_commit_that_fails_does_not_stop_what_comes_after(tmp_path: Path) -> None:
    def break_a_promise(connection: apsw.Connection) -> None:
        connection.execute("create table parent(id integer primary key)")
        connection.execute("create table child(id references parent(id) deferrable initially deferred)")
        connection.execute("insert into child values (9)")

    database = Database(tmp_path / "torz.db")
    async with api_over(database, tmp_path) as api:
        with pytest.raises(apsw.ConstraintError):
            await database.write(break_a_promise)
        assert (await api.ask("POST", TORZ, {"link": str(FILM.hash)})).status == 201
