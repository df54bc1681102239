"""The client over a real socket: against the application itself, and against servers that misbehave."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fakes import Inside, inside
from torrents import GREETING, PIECE, make_torrent
from torz.client import Client, download
from torz.client.download import PART, safe_path
from torz.domain.errors import (
    BadRequest,
    CredentialsInvalid,
    StoreBroken,
    StoreUnavailable,
    TooManyRequests,
    TorzError,
    TorzNotFound,
    Unauthorized,
)
from torz.domain.torz import Subscription, TorzStatus
from torz.http.server import Server
from torz.ports.node import Progress
from torz.ports.repo import Layout, Place

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    server = Server(app, ["127.0.0.1"], 0)  # type: ignore[arg-type]
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop(1)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path) as made:
        yield made


@pytest.fixture
async def url(api: Inside) -> AsyncIterator[str]:
    async with serving(api.app) as address:
        yield address


async def test_a_whole_story(api: Inside, url: str) -> None:
    async with Client(url + "/", auth="ann:secret") as torz:
        assert await torz.health()
        user = await torz.user()
        assert (user.id, user.subscription) == ("ann", Subscription.PREMIUM)
        added = await torz.add(str(GREETING.hash))
        assert (added.status, added.size, added.files) == (TorzStatus.QUEUED, None, ())
        api.node.said[GREETING.hash.raw] = Progress(GREETING.hash.raw, TorzStatus.DOWNLOADING, "", 3, 13, 5, 0, 1, 1)
        seen: list[TorzStatus] = []
        waiting = asyncio.create_task(torz.wait(added.id, on_change=lambda t: seen.append(t.status), every=0.02))
        await asyncio.sleep(0.1)
        await api.node_repo.learn(GREETING, GREETING.hash.raw)
        await api.finish(GREETING.hash.raw)
        done = await waiting
        assert (seen[0], done.status) == (TorzStatus.DOWNLOADING, TorzStatus.DOWNLOADED)
        assert done.files[0].path == "/greeting.txt"
        assert (await torz.add(GREETING.raw)).id == added.id
        assert (await torz.list()).total == 1
        assert [one.id async for one in torz.all()] == [added.id]
        [check] = await torz.check([GREETING.hash, "f" * 40], sid="tt1:1:1")
        assert (check.status, check.files[0].size, check.files[0].link) == (TorzStatus.CACHED, 13, "")
        assert (await torz.link(done.files[0].link)).startswith(url + "/v0/link/")
        await torz.remove(added.id)
        with pytest.raises(TorzNotFound):
            await torz.get(added.id)
        debug = await torz.debug()
        assert debug.engine
        assert debug.engine.alive


async def test_a_torrent_is_added_from_its_file(url: str, tmp_path: Path) -> None:
    path = tmp_path / "x.torrent"
    path.write_bytes(make_torrent("pack", {"a": b"1", "b": b"22"}).raw)
    async with Client(url, auth="ann:secret") as torz:
        assert [file.size for file in (await torz.add(path)).files] == [1, 2]


async def test_a_check_of_many_goes_in_batches(url: str) -> None:
    async with Client(url, auth="ann:secret") as torz:
        assert await torz.check(f"{n:040x}" for n in range(1, 1201)) == []


@pytest.mark.parametrize(
    ("auth", "store", "token", "error"),
    [
        ("ann:wrong", "", "", CredentialsInvalid),
        ("", "torz", "ann:wrong", Unauthorized),
        ("", "", "", BadRequest),
        ("ann:secret", "nope", "", BadRequest),
    ],
)
async def test_a_refusal_is_the_error_it_was(
    url: str, auth: str, store: str, token: str, error: type[TorzError]
) -> None:
    async with Client(url, auth=auth, store=store, token=token) as torz:
        with pytest.raises(Unauthorized if error is CredentialsInvalid else error) as refused:
            await torz.list()
        assert refused.value.hint


async def test_no_server_is_said_with_what_to_do() -> None:
    async with Client("http://127.0.0.1:1") as torz:
        with pytest.raises(StoreUnavailable, match="torz serve"):
            await torz.list()


@asynccontextmanager
async def raw_server(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Answers each connection's first request with bytes and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", StoreBroken),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 6\r\n\r\n<html>", StoreBroken),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"da', StoreUnavailable),
        (b"garbage\r\n\r\n", StoreUnavailable),
        (b"", StoreUnavailable),
    ],
)
async def test_what_is_not_the_api_is_an_error_of_ours(answer: bytes, error: type[TorzError]) -> None:
    async with raw_server(lambda _: answer) as url, Client(url) as torz:
        with pytest.raises(error):
            await torz.list()


async def test_a_slow_down_says_when_to_come_back() -> None:
    body = b'{"error":{"code":"TOO_MANY_REQUESTS","message":"60 per 1 hour","errors":[]}}'
    head = b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with raw_server(lambda _: head + body) as url, Client(url) as torz:
        with pytest.raises(TooManyRequests, match="60 per 1 hour") as limited:
            await torz.list()
        assert limited.value.retry_after == 7


async def finished_file(api: Inside, data: bytes) -> str:
    """A direct link to these bytes."""
    torrent = make_torrent("big.bin", {"big.bin": data, "x": b"x"})
    hash = torrent.hash.raw
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--b--\r\n' % torrent.raw
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    added = (await api.ask("POST", "/v0/store/torz", form, headers=headers)).data
    await api.node_repo.lay_out(hash, Layout(PIECE, [Place(0, "big.bin", 0, len(data)), Place(1, "x", len(data), 1)]))
    folder = api.root / hash.hex()
    folder.mkdir(parents=True)
    (folder / "big.bin").write_bytes(data)
    await api.finish(hash)
    answer = await api.ask("POST", "/v0/store/torz/link/generate", {"link": added["files"][0]["link"]})
    link: str = answer.data["link"]
    return link.removeprefix("http://torz.example:8679")


async def test_a_file_is_downloaded_in_parts(api: Inside, url: str, tmp_path: Path) -> None:
    data = os.urandom(3 * PART + 12345)
    link = url + await finished_file(api, data)
    told: list[int] = []
    async with Client(url) as torz:
        path = await download(torz.session, link, tmp_path / "out" / "big.bin", on_progress=lambda d, t: told.append(d))
    assert path.read_bytes() == data
    assert max(told) == len(data)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["big.bin"]


async def test_a_link_that_is_gone_says_so(url: str, tmp_path: Path) -> None:
    async with Client(url) as torz:
        with pytest.raises(TorzError):
            await download(torz.session, url + "/v0/link/nonsense/x", tmp_path / "x")
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/a/b.mkv", "a/b.mkv"),
        ("/../../etc/passwd", "_/_/etc/passwd"),
        ("/a\\b:c.mkv", "a_b_c.mkv"),
        ("/\x1b[31mred\u202egpj.exe", "_[31mred_gpj.exe"),
        ("", "_"),
        ("/.../x. ", "_/x"),
    ],
)
def test_a_torrents_path_stays_below_its_folder(path: str, safe: str, tmp_path: Path) -> None:
    assert safe_path(tmp_path, path) == tmp_path / safe
