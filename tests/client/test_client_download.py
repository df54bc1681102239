"""Downloads against servers that cut, change, refuse and lie: what is there at the end is the file, or an error."""

import asyncio
import fcntl
import json
import re
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from torz.client import Client, Download, destinations, safe_path
from torz.domain.errors import LinkGone, StoreBroken, StoreUnavailable, TorzError

pytestmark = pytest.mark.anyio
PART = 1000


@dataclass
class FileServer:
    """One file behind one link, with levers."""

    data: bytes
    etag: str = '"one"'
    ranges: bool = True
    faults: Iterator[Callable[["FileServer", bytes], bytes | None]] = field(default_factory=lambda: iter(()))
    """What is done instead, request after request; the probe counts."""
    asked: list[bytes] = field(default_factory=list)
    url: str = ""

    def answer(self, request: bytes) -> bytes:
        self.asked.append(request)
        if (fault := next(self.faults, None)) and (said := fault(self, request)) is not None:
            return said
        return self.honest(request)

    def honest(self, request: bytes) -> bytes:
        tag = f"ETag: {self.etag}\r\n" if self.etag else ""
        wanted = re.search(rb"range: bytes=(\d+)-(\d+)", request, re.IGNORECASE) if self.ranges else None
        condition = re.search(rb"if-range: (.*?)\r\n", request, re.IGNORECASE)
        if wanted is None or (condition and condition[1].decode() != self.etag):
            return head(f"200 OK\r\n{tag}", self.data)
        start, end = int(wanted[1]), int(wanted[2]) + 1
        if start >= len(self.data):
            return head(f"416 No\r\n{tag}Content-Range: bytes */{len(self.data)}\r\n", b"")
        part = self.data[start:end]
        place = f"Content-Range: bytes {start}-{start + len(part) - 1}/{len(self.data)}\r\n"
        return head(f"206 Partial\r\n{tag}{place}", part)

    @property
    def starts(self) -> list[int]:
        """Where the ranges began that were asked for, without the probe."""
        found = [re.search(rb"range: bytes=(\d+)-(\d+)", one, re.IGNORECASE) for one in self.asked]
        return [int(one[1]) for one in found if one and (one[1], one[2]) != (b"0", b"0")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def head(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status.strip()}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@asynccontextmanager
async def serving(server: FileServer) -> AsyncIterator[FileServer]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(server.answer(await reader.readuntil(b"\r\n\r\n")))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/file"
        yield server
    await asyncio.sleep(0)


def honest(server: FileServer, request: bytes) -> None:
    return None


def cut(server: FileServer, request: bytes) -> bytes:
    answer = server.honest(request)
    return answer[: len(answer) - len(answer.partition(b"\r\n\r\n")[2]) // 2]


def refuse(status: str, code: str, more: str = "") -> Callable[[FileServer, bytes], bytes]:
    body = json.dumps({"error": {"code": code, "message": "no", "errors": []}}).encode()
    return lambda server, request: head(f"{status}\r\n{more}", body)


def change(server: FileServer, request: bytes) -> None:
    server.data, server.etag = server.data[::-1], '"two"'


async def fetch(server: FileServer, path: Path, connections: int = 1) -> Path:
    async with Client() as torz:
        return await Download(torz.session, server.url, path, part=PART, pause=0.001).run(connections)


NOISE = bytes(range(256)) * 20


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 5 * PART + 7])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", ['"one"', 'W/"weak"', ""])
@pytest.mark.parametrize("connections", [1, 4])
async def test_a_file_of_any_size_arrives_whole(
    size: int, ranges: bool, etag: str, connections: int, tmp_path: Path
) -> None:
    data = (NOISE * 2)[:size]
    async with serving(FileServer(data, etag, ranges)) as server:
        path = await fetch(server, tmp_path / "x", connections)
    assert path.read_bytes() == data
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        lambda server, request: b"",
        lambda server, request: b"garbage\r\n\r\n",
        refuse("503 Busy", "SERVICE_UNAVAILABLE"),
        refuse("429 Slow", "TOO_MANY_REQUESTS"),
        change,
    ],
    ids=["cut", "hung up", "garbage", "busy", "slow down", "changed"],
)
@pytest.mark.parametrize("connections", [1, 3])
async def test_no_passing_fault_at_any_request_spoils_the_file(
    fault: Callable[[FileServer, bytes], bytes | None], connections: int, tmp_path: Path
) -> None:
    for at in range(20):
        faults = iter([*[honest] * at, fault])
        async with serving(FileServer(NOISE, faults=faults)) as server:
            path = await fetch(server, tmp_path / str(at), connections)
        assert path.read_bytes() == server.data
        if next(faults, None):
            return  # the download makes no more requests
    raise AssertionError("it never ends")


async def test_what_arrived_is_not_asked_for_again(tmp_path: Path) -> None:
    gone = refuse("410 Gone", "GONE")
    async with serving(FileServer(NOISE, faults=iter([honest, honest, honest, cut, gone]))) as server:
        with pytest.raises(LinkGone):
            await fetch(server, tmp_path / "x")
        assert names(tmp_path) == ["x.torz-data", "x.torz-part"]
        server.asked.clear()
        assert (await fetch(server, tmp_path / "x")).read_bytes() == NOISE
    assert server.starts[0] == 2 * PART + PART // 2
    assert names(tmp_path) == ["x"]


async def test_a_file_that_changed_since_last_time_is_begun_anew(tmp_path: Path) -> None:
    gone = refuse("410 Gone", "GONE")
    async with serving(FileServer(NOISE, faults=iter([honest, honest, gone]))) as server:
        with pytest.raises(LinkGone):
            await fetch(server, tmp_path / "x")
        change(server, b"")
        server.asked.clear()
        assert (await fetch(server, tmp_path / "x")).read_bytes() == server.data
    assert server.starts[0] == 0


async def test_without_a_strong_validator_nothing_is_resumed(tmp_path: Path) -> None:
    gone = refuse("410 Gone", "GONE")
    async with serving(FileServer(NOISE, 'W/"weak"', faults=iter([honest, honest, gone]))) as server:
        with pytest.raises(LinkGone):
            await fetch(server, tmp_path / "x")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"etag":"\\"one\\"","size":5120,"done":[[-5,3],[9,2],[5000,99999],[0,99999999999]]}',
        b'{"etag":"\\"one\\"","size":5120,"done":[["a",1]]}',
        b'{"etag":"\\"one\\"","size":9,"done":[[0,9]]}',
    ],
)
async def test_whatever_stands_in_the_notes_the_file_is_right(notes: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.torz-part").write_bytes(notes)
    (tmp_path / "x.torz-data").write_bytes(bytes(len(NOISE)))
    async with serving(FileServer(NOISE)) as server:
        assert (await fetch(server, tmp_path / "x")).read_bytes() == NOISE


async def test_a_file_that_keeps_changing_is_given_up(tmp_path: Path) -> None:
    changing = Counter()
    async with serving(FileServer(NOISE, faults=iter(changing, None))) as server:
        with pytest.raises(StoreBroken, match="keeps changing"):
            await fetch(server, tmp_path / "x")
    assert names(tmp_path) == []


class Counter:
    """A fault each time: a new validator for every request."""

    def __call__(self) -> Callable[[FileServer, bytes], None]:
        def retag(server: FileServer, request: bytes) -> None:
            server.etag = f'"{len(server.asked)}"'

        return retag


async def test_a_server_that_stays_away_is_given_up_with_a_sentence(tmp_path: Path) -> None:
    async with Client() as torz:
        with pytest.raises(StoreUnavailable, match="broke off"):
            await Download(torz.session, "http://127.0.0.1:1/x", tmp_path / "x", part=PART, pause=0.001).run()
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["bytes 7-1006/5120", "bytes */5120", "nonsense"])
async def test_a_range_that_was_not_asked_for_is_never_written(place: str, tmp_path: Path) -> None:
    def lie(server: FileServer, request: bytes) -> bytes:
        return head(f'206 Partial\r\nETag: "one"\r\nContent-Range: {place}\r\n', bytes(PART))

    async with serving(FileServer(NOISE, faults=iter([honest, *[lie] * 50]))) as server:
        with pytest.raises(TorzError):
            await fetch(server, tmp_path / "x")
    assert not (tmp_path / "x").exists()


async def test_more_than_was_asked_for_is_left_out(tmp_path: Path) -> None:
    def generous(server: FileServer, request: bytes) -> bytes:
        wanted = re.search(rb"range: bytes=(\d+)-(\d+)", request, re.IGNORECASE)
        assert wanted
        start = int(wanted[1])
        place = f"bytes {start}-{len(server.data) - 1}/{len(server.data)}"
        return head(f'206 Partial\r\nETag: "one"\r\nContent-Range: {place}\r\n', server.data[start:] + b"more")

    async with serving(FileServer(NOISE, faults=iter([honest, *[generous] * 50]))) as server:
        assert (await fetch(server, tmp_path / "x")).read_bytes() == NOISE


async def test_what_the_disk_refuses_is_told_as_such_and_not_tried_again(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with serving(FileServer(NOISE, ranges=False)) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (PART, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                await fetch(server, tmp_path / "x")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(server.asked) == 2  # the probe and the file
    assert names(tmp_path) == []


async def test_two_downloads_to_one_place_do_not_mix(tmp_path: Path) -> None:
    with (tmp_path / "x.torz-data").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        async with serving(FileServer(NOISE)) as server:
            with pytest.raises(StoreUnavailable, match="Another download"):
                await fetch(server, tmp_path / "x")


async def test_an_unfinished_file_is_not_written_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "x.torz-data").symlink_to(tmp_path / "precious")
    async with serving(FileServer(NOISE)) as server:
        with pytest.raises(OSError):
            await fetch(server, tmp_path / "x")
    assert (tmp_path / "precious").read_bytes() == b"mine"


async def test_progress_grows_to_the_size(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    async with serving(FileServer(NOISE, faults=iter([honest, cut]))) as server, Client() as torz:
        await Download(torz.session, server.url, tmp_path / "x", part=PART, pause=0.001).run(
            3, lambda done, size: told.append((done, size))
        )
    assert told == sorted(told)
    assert told[-1] == (len(NOISE), len(NOISE))


HOSTILE = [
    "/../../etc/passwd", "//etc/passwd", "/..", "/.", "/", "", "/a/../../b", "/~/.bashrc", "/\x00", "/a\x00/b",
    "/" + "x" * 5000, "/" + "界" * 300 + ".mkv", "/x." + "y" * 300, "/\ud800.mkv", "/a\u202egpj.exe", "/\u2028",
    "/con", "/a\\..\\b", "/ . / .. /x",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_no_path_of_a_torrent_leaves_the_folder_or_is_refused_by_the_disk(path: str, tmp_path: Path) -> None:
    place = safe_path(tmp_path, path)
    assert place.resolve().is_relative_to(tmp_path.resolve())
    assert place != tmp_path
    assert ".." not in place.parts
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_name(place.name + ".torz-part~").touch()
    assert all(part.isprintable() for part in place.relative_to(tmp_path).parts)


def test_a_long_name_keeps_its_ending(tmp_path: Path) -> None:
    assert safe_path(tmp_path, "/" + "界" * 300 + ".mkv").suffix == ".mkv"


def test_different_files_go_to_different_places(tmp_path: Path) -> None:
    paths = ["/a:b", "/a?b", "/A_B", "/d", "/d/e", "/x.mkv", "/x.mkv", "/x (2).mkv"]
    places = destinations(tmp_path, paths)
    assert len({str(place).casefold() for place in places}) == len(paths)
    assert places[0] == tmp_path / "a_b"
    assert places[4] == tmp_path / "d" / "e"
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == len(paths)
