"""What the client must never do, and what it makes of odd answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from torz.client import Client
from torz.domain.errors import StoreBroken, StoreUnavailable, TorzError
from torz.domain.torz import Torz, TorzStatus

pytestmark = pytest.mark.anyio
ITEM = {"id": "a1", "hash": "f" * 40, "name": "N", "size": -1, "status": "queued", "added_at": "1970-01-01T00:00:00Z"}


@asynccontextmanager
async def api(answer: Callable[[str], tuple[str, Any]]) -> AsyncIterator[tuple[str, list[str]]]:
    """Answers with what is made of each request's head: a status with headers, and a body."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        status, said = answer(asked[-1])
        body = json.dumps(said).encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    await asyncio.sleep(0)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_credentials_do_not_follow_a_redirect(status: str) -> None:
    async with api(lambda _: ("200 OK", {"data": {"status": "ok"}})) as (elsewhere, asked_there):
        moved = f"{status}\r\nLocation: {elsewhere.replace('127.0.0.1', 'localhost')}/v0/store/user"
        async with api(lambda _: (moved, {})) as (url, _), Client(url, auth="ann:secret", token="t") as torz:
            with pytest.raises(StoreBroken, match="somewhere else"):
                await torz.user()
        assert asked_there == []


async def test_a_download_carries_no_credentials() -> None:
    async with api(lambda _: ("200 OK", {})) as (url, asked), Client(url, auth="ann:secret", token="t") as torz:
        await (await torz.session.get(url + "/file")).read()
    assert "authorization" not in asked[0].lower()


@pytest.mark.parametrize("url", ["http://", "http://[", "ftp://x", "127.0.0.1:8679", "", "http://x:99999", "\n"])
async def test_an_address_of_no_server_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(StoreUnavailable):
        async with Client(url) as torz:
            await torz.health()


async def test_a_password_in_the_address_is_sent_and_never_shown() -> None:
    async with Client("http://ann:s%40cret@127.0.0.1:1") as torz:
        with pytest.raises(StoreUnavailable) as refused:
            await torz.health()
    assert "cret" not in str(refused.value)
    well = {"data": {"status": "ok"}}
    async with api(lambda _: ("200 OK", well)) as (url, asked), Client(url.replace("//", "//ann:s%40cret@")) as torz:
        assert await torz.health()
    assert "Basic YW5uOnNAY3JldA==" in asked[0]  # ann:s@cret


@pytest.mark.parametrize(
    ("member", "value"),
    [("added_at", "nonsense"), ("added_at", ""), ("hash", "nope"), ("status", "new"), ("size", "big"), ("id", None)],
)
async def test_what_cannot_be_read_is_the_servers_fault(member: str, value: object) -> None:
    said = {"data": {"items": [{**ITEM, member: value}], "total_items": 1}}
    async with api(lambda _: ("200 OK", said)) as (url, _), Client(url) as torz:
        with pytest.raises(StoreBroken):
            await torz.list()


async def test_a_hash_that_is_none_is_the_servers_fault_in_a_check_too() -> None:
    said = {"data": {"items": [{"hash": "nope", "magnet": "", "status": "cached", "files": []}]}}
    async with api(lambda _: ("200 OK", said)) as (url, _), Client(url) as torz:
        with pytest.raises(StoreBroken):
            await torz.check(["f" * 40])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("1970-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("2025-03-20T17:39:21Z", datetime(2025, 3, 20, 17, 39, 21, tzinfo=UTC)),
        ("2025-03-20T18:39:21+01:00", datetime(2025, 3, 20, 17, 39, 21, tzinfo=UTC)),
        ("2025-03-20T17:39:21", datetime(2025, 3, 20, 17, 39, 21, tzinfo=UTC)),
        ("2026-11-23T19:33:30.870724783Z", datetime(2026, 11, 23, 19, 33, 30, 870724, tzinfo=UTC)),
    ],
)
async def test_every_form_of_time_is_read(said: str, meant: datetime | None) -> None:
    page = {"data": {"items": [{**ITEM, "added_at": said}], "total_items": 1}}
    async with api(lambda _: ("200 OK", page)) as (url, _), Client(url) as torz:
        [one] = (await torz.list()).items
    assert (one.added_at, one.size) == (meant, None)


async def test_what_is_added_meanwhile_shows_nothing_twice() -> None:
    pages = iter([["b", "a"], ["a", "z"]])

    def answer(_: str) -> tuple[str, Any]:
        items = [{**ITEM, "id": id} for id in next(pages)]
        return "200 OK", {"data": {"items": items, "total_items": 4}}

    async with api(answer) as (url, _), Client(url) as torz:
        assert [one.id async for one in torz.all()] == ["b", "a", "z"]


async def test_waiting_tells_changes_alone_and_outlives_a_short_absence() -> None:
    busy = ("503 Busy", {"error": {"code": "SERVICE_UNAVAILABLE", "message": "m", "errors": []}})
    queued, done = (("200 OK", {"data": {**ITEM, "status": s, "files": []}}) for s in ("queued", "downloaded"))
    answers = iter([queued, queued, busy, busy, queued, busy, done])
    told: list[Torz] = []
    async with api(lambda _: next(answers)) as (url, _), Client(url) as torz:
        assert (await torz.wait("a1", on_change=told.append, every=0.001)).status is TorzStatus.DOWNLOADED
    assert [one.status for one in told] == [TorzStatus.QUEUED, TorzStatus.DOWNLOADED]


async def test_waiting_ends_when_the_server_stays_away() -> None:
    async with Client("http://127.0.0.1:1") as torz:
        with pytest.raises(StoreUnavailable):
            await torz.wait("a1", every=0.001)


async def test_an_id_cannot_lead_to_another_route() -> None:
    unknown = {"error": {"code": "NOT_FOUND", "message": "m", "errors": []}}
    async with api(lambda _: ("404 No", unknown)) as (url, asked), Client(url) as torz:
        for id in ("../user", "a/b", "x?y=z", "#", "%2e%2e"):
            with pytest.raises(TorzError):
                await torz.remove(id)
    assert [one.split()[1].rpartition("/")[0] for one in asked] == ["/v0/store/torz"] * 5
