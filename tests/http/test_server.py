"""The server over real sockets: files by the kernel, long heads, short patience, and how it stops."""

import asyncio
import json
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Answer, Peer, request

from torz.http.protocol import DISK_THREADS, Limits, Outlet, Sending, is_warm
from torz.http.server import Server

pytestmark = pytest.mark.anyio
MIB = 1 << 20
DATA = random.Random(1).randbytes(8 * MIB + 4321)
SIZE = len(DATA)
BIG = 256 * MIB
"""More than the buffers of a connection hold."""


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mkv"
    path.write_bytes(DATA)
    return path


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "big.mkv"
    with path.open("wb") as file:
        file.truncate(BIG)
    return path


class App:
    """What a test asks for by its path; `heard` is what handlers learned at their end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.heard: list[str] = []
        self.scopes: list[Any] = []
        self.open = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        handler = getattr(self, scope["path"].strip("/").split("/")[0] or "hello")
        try:
            await handler(scope, receive, send)
        except BaseException as exc:
            self.heard.append(type(exc).__name__)
            raise

    async def hello(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        said = {"query": len(scope["query_string"]), "client": scope["client"][0], "body": body.decode()}
        await start(send, len(json.dumps(said)))
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    async def part(self, scope: Any, receive: Any, send: Any) -> None:
        """`/part/<start>/<end>/<window>`: a part of the file, window by window."""
        at, end, window = map(int, scope["path"].split("/")[2:])
        with self.file.open("rb") as file:
            await start(send, end - at)
            while at < end:
                until = min(end, at + window)
                await send_file(send, file, at, until - at, more=until < end)
                at = until

    async def parts(self, scope: Any, receive: Any, send: Any) -> None:
        with self.file.open("rb") as file:
            await start(send, 3 + 5 * MIB + MIB + 100 + 4)
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await send_file(send, file, 7, 5 * MIB, more=True)
            await send({"type": "http.response.body", "body": DATA[:MIB], "more_body": True})
            await send_file(send, file.fileno(), MIB, 100, more=True)
            await send({"type": "http.response.body", "body": b"five"})

    async def left(self, scope: Any, receive: Any, send: Any) -> None:
        """The file, for a client that goes away."""
        with self.file.open("rb") as file:
            await start(send, os.fstat(file.fileno()).st_size)
            await send_file(send, file, 0, os.fstat(file.fileno()).st_size - 1, more=True)
            while (message := await receive())["type"] == "http.request":
                pass
            self.heard.append(message["type"])
            await send_file(send, file, 0, 1)  # to nobody, which is no error
            await send({"type": "http.response.body", "body": b""})
        self.heard.append("quiet")

    async def short(self, scope: Any, receive: Any, send: Any) -> None:
        with self.file.open("rb") as file:
            await start(send, SIZE + 1000)
            await send_file(send, file, 0, SIZE + 1000)

    async def long(self, scope: Any, receive: Any, send: Any) -> None:
        with self.file.open("rb") as file:
            await start(send, 10)
            await send_file(send, file, 0, 11)

    async def chunked(self, scope: Any, receive: Any, send: Any) -> None:
        with self.file.open("rb") as file:
            await send({"type": "http.response.start", "status": 200})
            await send_file(send, file, 0, 11)

    async def wait(self, scope: Any, receive: Any, send: Any) -> None:
        await self.open.wait()
        await start(send, 2)
        await send({"type": "http.response.body", "body": b"ok"})

    async def large(self, scope: Any, receive: Any, send: Any) -> None:
        await start(send, 32 * MIB)
        await send({"type": "http.response.body", "body": bytes(32 * MIB)})


async def start(send: Any, length: int) -> None:
    headers = [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_file(send: Any, file: Any, offset: int, count: int, *, more: bool = False) -> None:
    message = {"type": "http.response.zerocopysend", "file": file, "offset": offset, "count": count}
    await send({**message, "more_body": more})


class Rig:
    def __init__(self, app: App, server: Server) -> None:
        self.app = app
        self.server = server
        self._peers: list[Peer] = []

    async def peer(self, buffer: int = 0) -> Peer:
        self._peers.append(await Peer.connect(self.server.port, buffer=buffer))
        return self._peers[-1]

    async def ask(self, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        async with await Peer.connect(self.server.port) as peer:
            return await peer.ask(target, method, body, **headers)

    async def heard(self, *wanted: str) -> None:
        await until(lambda: self.app.heard == list(wanted), lambda: self.app.heard)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


@asynccontextmanager
async def serving(file: Path, **options: Any) -> AsyncIterator[Rig]:
    """A server of its own, which leaves no descriptor and no task behind."""
    fds, tasks = await fds_before(), asyncio.all_tasks()
    rig = Rig(app := App(file), Server(app, ["127.0.0.1"], 0, **options))
    await rig.server.start()
    try:
        yield rig
    finally:
        rig.close()
        await rig.server.stop(5)
    await until(lambda: open_fds() == fds, lambda: named(open_fds() - fds))
    assert asyncio.all_tasks() == tasks


async def until(holds: Callable[[], bool], tell: Callable[[], object] = lambda: "") -> None:
    try:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 - what we wait for is not ours to signal
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(tell()) from None


async def fds_before() -> set[int]:
    """The open descriptors, with the one that libuv takes at its first stream and keeps."""
    first = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    during = open_fds()
    first.close()
    await until(lambda: open_fds() < during)
    return open_fds()


def open_fds() -> set[int]:
    found = {int(name) for name in os.listdir("/proc/self/fd")}
    return {fd for fd in found if os.path.exists(f"/proc/self/fd/{fd}")}  # noqa: PTH110 - listing takes one itself


def named(fds: set[int]) -> list[str]:
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]  # noqa: PTH115


def is_cold(file: int, offset: int, count: int) -> bool:
    return False


PROBES = pytest.mark.parametrize("probe", [is_warm, is_cold, lambda *_: True], ids=["probed", "cold", "warm"])


# Files


@PROBES
@pytest.mark.parametrize(
    ("start", "end"), [(0, SIZE), (0, 1), (SIZE - 1, SIZE), (4095, 4097), (MIB - 1, 3 * MIB + 1), (5, 5)]
)
async def test_the_bytes_are_those_of_the_file(film: Path, probe: Any, start: int, end: int) -> None:
    async with serving(film, is_warm=probe) as rig:
        assert (await rig.ask(f"/part/{start}/{end}/{SIZE}")).body == DATA[start:end]


@PROBES
@pytest.mark.parametrize(("start", "end", "window"), [(0, SIZE, MIB), (7, SIZE, 65537), (100, 400, 1)])
async def test_windows_make_one_body(film: Path, probe: Any, start: int, end: int, window: int) -> None:
    async with serving(film, is_warm=probe) as rig:
        assert (await rig.ask(f"/part/{start}/{end}/{window}")).body == DATA[start:end]


@PROBES
async def test_bytes_of_the_handler_stay_in_their_place_between_those_of_files(film: Path, probe: Any) -> None:
    async with serving(film, is_warm=probe) as rig:
        peer = await rig.peer(buffer=4096)
        answer = await peer.ask("/parts")
        assert answer.body == b"one" + DATA[7 : 5 * MIB + 7] + DATA[:MIB] + DATA[MIB : MIB + 100] + b"five"


@PROBES
async def test_a_slow_reader_gets_every_byte_and_holds_nobody_up(film: Path, probe: Any) -> None:
    async with serving(film, is_warm=probe) as rig:
        slow = await rig.peer(buffer=4096)
        await slow.send(request(f"/part/0/{SIZE}/{SIZE}"))
        _, headers = await slow.head()
        assert headers["content-length"] == str(SIZE)
        read = b""
        for size in (1, 1000, 100_000, 10, MIB):
            read += await slow.read(size)
            assert (await rig.ask("/hello")).status == 200
        read += await slow.read(SIZE - len(read))
        assert read == DATA


@PROBES
async def test_requests_behind_a_stream_are_answered_after_it(film: Path, probe: Any) -> None:
    async with serving(film, is_warm=probe) as rig:
        peer = await rig.peer()
        await peer.send(request(f"/part/9/{SIZE}/{MIB}") + request("/?ab") + request("/part/1/9/3") + request("/?abc"))
        assert (await peer.answer()).body == DATA[9:]
        assert (await peer.answer()).json["query"] == 2
        assert (await peer.answer()).body == DATA[1:9]
        assert (await peer.answer()).json["query"] == 3
        assert (await peer.ask(f"/part/0/{SIZE}/{SIZE}")).body == DATA
        assert (await peer.ask("/", "POST", b"hello")).json["body"] == "hello"


async def test_a_head_request_gets_no_body(film: Path) -> None:
    async with serving(film) as rig:
        peer = await rig.peer()
        answer = await peer.ask(f"/part/0/{SIZE}/{MIB}", "HEAD")
        assert (answer.status, answer.headers["content-length"]) == (200, str(SIZE))
        assert (await peer.ask("/?x")).json["query"] == 1


@PROBES
async def test_64_streams_at_once(film: Path, probe: Any) -> None:
    async with serving(film, is_warm=probe) as rig:
        asked = [(i * 1001, i * 1001 + 3 * MIB) for i in range(64)]
        answers = await asyncio.gather(*(rig.ask(f"/part/{at}/{end}/{MIB}") for at, end in asked))
        assert [answer.body == DATA[at:end] for answer, (at, end) in zip(answers, asked, strict=True)] == [True] * 64


async def test_a_file_that_was_dropped_from_memory_comes_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "cold.mkv"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    async with serving(path) as rig:
        assert (await rig.ask(f"/part/0/{SIZE}/{SIZE}")).body == DATA


def test_where_the_kernel_cannot_say_a_file_counts_as_cold() -> None:
    read, write = os.pipe()
    os.close(write)
    assert not is_warm(read, 0, 10)
    os.close(read)
    assert not is_warm(read, 0, 10)


def test_the_more_streams_the_shorter_their_turns() -> None:
    sending, sizes = Sending(), []
    for sending.streams in (1, 4, 5, 64, 128, 10_000):
        sizes.append(sending.slice_and_turn())
    assert sizes == [(MIB // 4, 4 * MIB)] * 2 + [(MIB // 4, MIB // 4)] * 2 + [
        (MIB // 8, MIB // 8),
        (MIB // 16, MIB // 16),
    ]


@pytest.mark.parametrize("window", [64 << 10, 192 << 10])
async def test_among_many_each_slice_is_followed_by_others_turns(film: Path, window: int) -> None:
    loop, sending, turns = asyncio.get_running_loop(), Sending(), [0]
    sending.streams = 10_000
    sent: list[int] = []

    def tick() -> None:
        turns[0] += 1
        nonlocal handle
        handle = loop.call_soon(tick)

    def probe(file: int, offset: int, count: int) -> bool:
        sent.append(turns[0])
        return True

    sending.is_warm = probe
    ours, theirs = socket.socketpair()  # which holds three slices, so that nothing else makes us wait
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    outlet, handle = Outlet(transport, loop, sending), loop.call_soon(tick)
    with film.open("rb") as file:
        for at in range(0, 192 << 10, window):
            await outlet.send(file.fileno(), at, at + window)
    handle.cancel()
    outlet.close()
    transport.abort()
    theirs.close()
    assert len(sent) == len(set(sent)) == 3


async def test_the_extension_is_told(film: Path) -> None:
    async with serving(film) as rig:
        await rig.ask("/")
        assert rig.app.scopes[0]["extensions"] == {"http.response.zerocopysend": {}}


# What goes wrong with files


@PROBES
@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
@pytest.mark.parametrize("behind", [b"", request("/")], ids=["alone", "pipelined"])
async def test_a_client_that_leaves_is_no_error(
    big: Path, probe: Any, leave: Callable[[Peer], None], behind: bytes
) -> None:
    async with serving(big, is_warm=probe) as rig:
        peer = await rig.peer(buffer=4096)
        await peer.send(request("/left") + behind)
        await peer.head()
        await peer.read(MIB)
        leave(peer)
        await rig.heard("http.disconnect", "quiet")
        assert (await rig.ask("/")).status == 200


async def test_a_request_that_runs_learns_that_its_connection_is_gone(big: Path) -> None:
    async with serving(big) as rig:
        peer = await rig.peer(buffer=4096)
        await peer.send(request("/left") + request("/"))
        await peer.head()
        for connection in rig.server._state.connections:
            connection.transport.abort()
        await rig.heard("http.disconnect", "quiet")


@PROBES
async def test_a_file_shorter_than_promised_is_cut_off_and_never_padded(film: Path, probe: Any) -> None:
    async with serving(film, is_warm=probe) as rig:
        peer = await rig.peer()
        await peer.send(request("/short") + request("/"))
        assert (await peer.head())[1]["content-length"] == str(SIZE + 1000)
        assert await peer.rest() == DATA
        await rig.heard("EOFError")


@pytest.mark.parametrize("path", ["/long", "/chunked"])
async def test_no_byte_is_sent_beyond_the_content_length(film: Path, path: str) -> None:
    async with serving(film) as rig:
        peer = await rig.peer()
        await peer.send(request(path))
        await peer.head()
        assert await peer.rest() == b""
        await rig.heard("RuntimeError")


@asynccontextmanager
async def outlet_with_busy_disks() -> AsyncIterator[tuple[Outlet, socket.socket, threading.Event]]:
    """An outlet whose every slice waits for a disk until the event is set."""
    fds, loop = await fds_before(), asyncio.get_running_loop()
    sending, free = Sending(is_cold), threading.Event()
    for _ in range(DISK_THREADS):
        sending.threads.submit(free.wait)
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    try:
        yield Outlet(transport, loop, sending), theirs, free
    finally:
        free.set()
        transport.abort()
        theirs.close()
        sending.threads.shutdown()
    await until(lambda: open_fds() == fds, lambda: named(open_fds() - fds))


async def test_a_cancelled_send_returns_when_its_thread_is_done(film: Path) -> None:
    async with outlet_with_busy_disks() as (outlet, theirs, free):
        with film.open("rb") as file:
            sending = asyncio.create_task(outlet.send(file.fileno(), 0, 1000))
            for _ in range(3):  # a second cancel shall not do what the first did not
                await asyncio.sleep(0)
                sending.cancel()
            await asyncio.wait({sending}, timeout=0.02)
            assert not sending.done()
            free.set()
            with pytest.raises(asyncio.CancelledError):
                await sending
            outlet.close()
        assert theirs.recv(2000) == DATA[:1000]


async def test_a_socket_is_not_closed_under_a_thread(film: Path) -> None:
    async with outlet_with_busy_disks() as (outlet, _, free):
        with film.open("rb") as file:
            before = open_fds()
            sending = asyncio.create_task(outlet.send(file.fileno(), 0, SIZE))
            await asyncio.sleep(0)
            outlet.close()
            assert open_fds() == before
            free.set()
            with suppress(BlockingIOError):
                await sending
            assert len(before - open_fds()) == 1


# Heads


@pytest.mark.parametrize("size", [40_000, 500_000, 900_000, MIB - 100])
async def test_a_request_line_may_be_long(film: Path, size: int) -> None:
    async with serving(film) as rig:
        peer = await rig.peer()
        for _ in range(2):
            assert (await peer.ask("/?" + "a" * size)).json["query"] == size
        await peer.send(request(f"/part/0/{SIZE}/{MIB}"), request("/?" + "a" * size), request("/?end"))
        assert (await peer.answer()).body == DATA
        assert (await peer.answer()).json["query"] == size
        assert (await peer.answer()).json["query"] == 3


async def test_headers_may_be_long_together(film: Path) -> None:
    async with serving(film) as rig:
        answer = await rig.ask("/", **{f"x{i}": "a" * 10_000 for i in range(90)})
        assert answer.status == 200


@pytest.mark.parametrize(
    "said",
    [
        request("/?" + "a" * (MIB + 10)),
        request("/?" + "a" * (MIB + 10)) + request("/part/0/9/9"),
        request("/?" + "a" * 5 * MIB),
        b"GET /" + b"a" * 2 * MIB,
        request("/", x="a" * 2 * MIB),
        request("/", **{f"x{i}": "a" * 1000 for i in range(2000)}),
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 2 * MIB,
    ],
    ids=["a little too long", "another behind it", "far too long", "endless", "one header", "many headers", "trailers"],
)
async def test_more_than_1_mib_is_refused(film: Path, said: bytes) -> None:
    async with serving(film) as rig:
        peer = await rig.peer()
        await peer.send(said)  # to the end: a reset would take our words back
        answer = await peer.answer()
        assert (answer.status, answer.json["error"]["code"]) == (431, "BAD_REQUEST")
        assert [scope["path"] for scope in rig.app.scopes if scope["method"] == "GET"] == []
        assert answer.json["error"]["message"].startswith("The request line and headers are over 1048576 bytes.")
        assert answer.headers["connection"] == "close"
        assert await peer.rest() == b""
        assert (await rig.ask("/")).status == 200


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        random.Random(2).randbytes(1000),
        b"\x00" * 100_000,
    ],
)
async def test_what_is_not_http_is_refused(film: Path, said: bytes) -> None:
    async with serving(film) as rig:
        peer = await rig.peer()
        await peer.send(said)
        answer = await peer.answer()
        assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
        assert answer.json == {"error": {"code": "BAD_REQUEST", "message": "This is not HTTP/1.1."}}
        assert "date" in answer.headers
        assert await peer.rest() == b""


async def test_any_bytes_leave_the_server_well(film: Path) -> None:
    dice = random.Random(3)
    async with serving(film) as rig:
        for _ in range(100):
            said = bytearray(request("/part/0/900/100") + request("/", "POST", b"{}") + request("/hello"))
            for _ in range(dice.randint(1, 5)):
                said[dice.randrange(len(said))] = dice.randrange(256)
            async with await Peer.connect(rig.server.port) as peer:
                await peer.send(bytes(said))
        assert (await rig.ask("/")).status == 200


@pytest.mark.parametrize("behind", [b"\x00garbage\r\n\r\n", b"GET /" + b"a" * 1_500_000])
async def test_an_answer_is_finished_before_what_follows_is_refused(film: Path, behind: bytes) -> None:
    async with serving(film) as rig:
        peer = await rig.peer()
        await peer.send(request(f"/part/0/{SIZE}/{MIB}") + behind)
        assert (await peer.answer()).body == DATA
        await peer.rest()


async def test_a_body_may_be_longer_than_a_head(film: Path) -> None:
    body = b"a" * 5 * MIB
    async with serving(film) as rig:
        peer = await rig.peer()
        assert len((await peer.ask("/", "POST", body)).json["body"]) == len(body)
        chunk = b"%x\r\n%s\r\n" % (len(body), body)
        await peer.send(request("/", "POST", transfer_encoding="chunked"), chunk, chunk, b"0\r\n\r\n")
        assert len((await peer.answer()).json["body"]) == 2 * len(body)


async def test_no_connection_queues_requests_without_end(film: Path) -> None:
    count, waiting = 40_000, 0
    async with serving(film) as rig:
        peer = await rig.peer()
        flood = asyncio.create_task(peer.send(b"GET / HTTP/1.1\r\n\r\n" * count))
        for _ in range(count):
            assert (await peer.answer()).status == 200
            waiting = max(waiting, *(len(connection.pipeline) for connection in rig.server._state.connections))
        await flood
    assert waiting < 20_000  # what came with one read, and one more


async def test_a_body_is_kept_although_the_client_offers_to_upgrade(film: Path) -> None:
    async with serving(film) as rig:
        peer = await rig.peer()
        said = request("/", "POST", b"hello", connection="Upgrade, HTTP2-Settings", upgrade="h2c")
        await peer.send(said + said[:-3], said[-3:] + request("/?next"))
        assert (await peer.answer()).json["body"] == "hello"
        assert (await peer.answer()).json["body"] == "hello"
        assert (await peer.answer()).json["query"] == 4


async def test_forwarded_headers_are_not_believed_here(film: Path) -> None:
    async with serving(film) as rig:
        assert (await rig.ask("/", x_forwarded_for="192.0.2.1")).json["client"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/hello/%C3%B6?a=%20", "/hello/ö", b"a=%20"),
        ("http://x/hello?a", "/hello", b"a"),
        ("/hello?a?b#c", "/hello", b"a?b"),
    ],
)
async def test_a_target_is_taken_apart(film: Path, target: str, path: str, query: bytes) -> None:
    async with serving(film) as rig:
        await rig.ask(target)
        assert (rig.app.scopes[0]["path"], rig.app.scopes[0]["query_string"]) == (path, query)


async def test_answers_tell_the_date_and_not_who_we_are(film: Path) -> None:
    async with serving(film) as rig:
        answer = await rig.ask("/")
        assert answer.headers["date"].endswith("GMT")
        assert "server" not in answer.headers


# Patience


async def test_a_head_that_does_not_end_is_refused(film: Path) -> None:
    async with serving(film, limits=Limits(head_patience=0.05)) as rig:
        peer = await rig.peer()
        assert (await peer.ask("/")).status == 200
        await peer.send(b"GET / HTTP/1.1\r\nHost: to")
        answer = await peer.answer()
        assert answer.status == 408
        assert answer.json["error"]["message"] == "The request's head did not arrive within 0.05 seconds."
        assert await peer.rest() == b""


async def test_a_head_is_not_late_while_we_are_the_slow_ones(film: Path) -> None:
    async with serving(film, limits=Limits(head_patience=0.05)) as rig:
        peer = await rig.peer()
        await peer.send(request("/wait") + request("/?ab") + b"GET /?abc HTT")
        clock = await rig.peer()
        await clock.send(b"G")
        assert (await clock.answer()).status == 408
        rig.app.open.set()
        assert (await peer.answer()).body == b"ok"
        assert (await peer.answer()).json["query"] == 2
        await peer.send(b"P/1.1\r\n\r\n")
        assert (await peer.answer()).json["query"] == 3


@pytest.mark.parametrize("said", [b"", b"\r\n"], ids=["nothing", "an empty line"])
@pytest.mark.parametrize("before", [False, True])
async def test_an_idle_connection_is_closed_without_a_word(film: Path, said: bytes, before: bool) -> None:
    async with serving(film, limits=Limits(head_patience=0.05, idle_patience=0.05)) as rig:
        peer = await rig.peer()
        if before:
            await peer.ask("/")
        await peer.send(said)
        assert await peer.rest() == b""


async def test_patience_with_a_head_says_nothing_of_what_comes_after_it(film: Path) -> None:
    async with serving(film, limits=Limits(head_patience=0.05, idle_patience=5)) as rig:
        peer = await rig.peer()
        for _ in range(2):
            await peer.ask("/")
            assert await (await rig.peer()).rest() == b""  # whose patience began later


async def test_an_answer_may_take_longer_than_a_connection_may_idle(film: Path) -> None:
    async with serving(film, limits=Limits(idle_patience=0.05)) as rig:
        peer = await rig.peer()
        await peer.send(request("/wait") + b"GET /wait HTT")
        rig.app.open.set()
        assert (await peer.answer()).body == b"ok"
        rig.app.open.clear()
        await peer.send(b"P/1.1\r\n\r\n")
        idle = await rig.peer()
        await idle.ask("/")
        assert await idle.rest() == b""  # its time began later
        rig.app.open.set()
        assert (await peer.answer()).body == b"ok"


# Start and stop


async def test_a_taken_port_is_an_error_with_a_sentence(film: Path) -> None:
    async with serving(film) as rig:
        other = Server(rig.app, ["127.0.0.2", "127.0.0.1"], rig.server.port)
        fds = open_fds()
        with pytest.raises(
            OSError, match=rf"Cannot listen on 127.0.0.1 port {rig.server.port}: Address already in use"
        ):
            await other.start()
        await until(lambda: open_fds() == fds, lambda: named(open_fds() - fds))


async def test_an_address_of_another_machine_is_an_error_with_a_sentence(film: Path) -> None:
    server = Server(App(film), ["192.0.2.1"], 0)
    with pytest.raises(OSError, match=r"Cannot listen on 192.0.2.1 port 0: "):
        await server.start()


async def test_several_addresses_share_one_port(film: Path) -> None:
    hosts = ["127.0.0.1", "127.0.0.2", *(["::1"] if has_ipv6() else [])]
    server = Server(App(film), hosts, 0)
    await server.start()
    for host in hosts:
        async with await Peer.connect(server.port, host) as peer:
            assert (await peer.ask("/")).status == 200
    await server.stop(5)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_a_stop_lets_requests_finish_and_closes_idle_connections(film: Path) -> None:
    async with serving(film) as rig:
        idle, busy = await rig.peer(), await rig.peer()
        await idle.ask("/")
        await busy.send(request("/wait"))
        await until(lambda: len(rig.app.scopes) == 2)
        stopping = asyncio.create_task(rig.server.stop(10))
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await rig.peer()
        rig.app.open.set()
        answer = await busy.answer()
        assert (answer.body, await busy.rest()) == (b"ok", b"")
        await stopping


@pytest.mark.parametrize("path", ["/left", "/wait", "/large"])
async def test_a_stop_does_not_wait_for_the_stuck(big: Path, path: str) -> None:
    async with serving(big) as rig:
        peers = [await rig.peer(buffer=4096) for _ in range(3)]
        for peer in peers:
            await peer.send(request(path))
        await until(lambda: len(rig.app.scopes) == 3)
        async with asyncio.timeout(3):
            await rig.server.stop(0.05)
        for peer in peers:
            assert len(await peer.rest()) < 32 * MIB


@PROBES
async def test_a_stop_in_the_middle_of_streams_leaves_nothing(big: Path, probe: Any) -> None:
    async with serving(big, is_warm=probe) as rig:
        peers = [await rig.peer(buffer=4096) for _ in range(12)]
        for peer in peers:
            await peer.send(request("/left"))
            await peer.head()
        async with asyncio.timeout(3):
            await rig.server.stop(0)
