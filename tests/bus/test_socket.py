"""The bus, and what goes wrong on a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.bus import frames, socket
from torz.bus.frames import Call, Down, Told, pack
from torz.bus.socket import NodeServer, SocketNodeLink
from torz.domain.errors import Unavailable
from torz.domain.torz import TorzStatus
from torz.ports.clock import SystemClock
from torz.ports.node import Changed, Command, Durable, Event, Nudge, PieceMap, Progress, Read, Unread, Vitals, Watch

pytestmark = pytest.mark.anyio
ONE, TWO = b"1" * 20, b"2" * 20
VITALS = Vitals("engine 1")
MAP = PieceMap(16384, 3, b"\xa0")


def progress(hash: bytes, done: int = 0) -> Progress:
    return Progress(hash, TorzStatus.DOWNLOADING, done=done, total=100)


class FakeEngine:
    """What stands behind a server."""

    def __init__(self) -> None:
        self.told: list[Event] = [VITALS]
        self.heard: list[tuple[Command, int]] = []
        self.gone: list[int] = []
        self.blocked = asyncio.Event()
        self.blocked.set()
        self.running = 0
        self.most = 0

    async def handle(self, command: Command, connection: int) -> PieceMap | None:
        self.heard.append((command, connection))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.blocked.wait()
        finally:
            self.running -= 1
        if isinstance(command, Watch):
            if command.hash == TWO:
                raise Unavailable("not known yet")
            return MAP
        if isinstance(command, Unread):
            raise ZeroDivisionError
        return None


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - many things are waited for, and few of them tell
            await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(path: Path, engine: FakeEngine) -> AsyncIterator[NodeServer]:
    server = NodeServer(path, engine.handle, lambda: engine.told, engine.gone.append)
    await server.start()
    try:
        yield server
    finally:
        await server.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
async def link(path: Path) -> AsyncIterator[SocketNodeLink]:
    link = SocketNodeLink(path, SystemClock())
    await link.start()
    yield link
    await link.aclose()


async def test_a_command_is_answered(path: Path, link: SocketNodeLink) -> None:
    async with serving(path, FakeEngine()):
        await until(lambda: link.alive)
        assert await link.call(Watch(ONE)) == MAP
        assert await link.call(Read(1, ONE, 0, 10)) is None


async def test_a_refusal_is_told_in_words(path: Path, link: SocketNodeLink) -> None:
    async with serving(path, FakeEngine()):
        await until(lambda: link.alive)
        with pytest.raises(Unavailable, match="not known yet"):
            await link.call(Watch(TWO))


async def test_a_failing_command_is_answered_too(
    path: Path, link: SocketNodeLink, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(path, FakeEngine()):
        await until(lambda: link.alive)
        with pytest.raises(Unavailable, match="could not do it"):
            await link.call(Unread(1))
        assert await link.call(Watch(ONE)) == MAP
    assert "ZeroDivisionError" in caplog.text


async def test_many_calls_are_in_flight_at_once_but_not_any_number(path: Path, link: SocketNodeLink) -> None:
    engine = FakeEngine()
    engine.blocked.clear()
    async with serving(path, engine):
        await until(lambda: link.alive)
        calls = [asyncio.create_task(link.call(Watch(ONE))) for _ in range(1000)]
        await until(lambda: engine.running == socket._MOST_CALLS)
        engine.blocked.set()
        assert await asyncio.gather(*calls) == [MAP] * 1000
        assert engine.most == socket._MOST_CALLS


async def test_a_command_without_a_node_is_refused_at_once(link: SocketNodeLink) -> None:
    assert not link.alive
    with pytest.raises(Unavailable):
        await link.call(Watch(ONE))


async def test_a_call_fails_when_the_node_goes(path: Path, link: SocketNodeLink) -> None:
    engine = FakeEngine()
    engine.blocked.clear()
    async with serving(path, engine):
        await until(lambda: link.alive)
        call = asyncio.create_task(link.call(Watch(ONE)))
        await until(lambda: engine.running)
    with pytest.raises(Unavailable, match="restarted"):
        await call
    assert not link.alive


async def test_a_call_that_is_not_answered_ends(
    path: Path, link: SocketNodeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "_PATIENCE", 0.05)
    engine = FakeEngine()
    engine.blocked.clear()
    async with serving(path, engine):
        await until(lambda: link.alive)
        with pytest.raises(Unavailable, match="does not answer"):
            await link.call(Watch(ONE))
        engine.blocked.set()
        assert await link.call(Watch(ONE)) == MAP


async def test_the_mirror_holds_what_was_last_said(path: Path, link: SocketNodeLink) -> None:
    engine = FakeEngine()
    engine.told = [VITALS, progress(ONE, 1)]
    async with serving(path, engine) as server:
        await until(lambda: link.alive and link.vitals)
        assert link.progress(ONE) == progress(ONE, 1)
        server.broadcast([progress(ONE, 2), progress(TWO, 7)])
        await until(lambda: link.progress(TWO))
        assert link.progress(ONE) == progress(ONE, 2)
        server.broadcast([Changed(ONE)])
        await until(lambda: link.progress(ONE) is None)
        assert link.progress(TWO) == progress(TWO, 7)


async def test_a_new_snapshot_replaces_all(path: Path, link: SocketNodeLink) -> None:
    engine = FakeEngine()
    engine.told = [VITALS, progress(ONE), progress(TWO)]
    heard: list[Event | None] = []
    link.listen(heard.append)
    async with serving(path, engine):
        await until(lambda: link.progress(TWO))
    await until(lambda: not link.alive)
    assert link.progress(ONE) is None
    engine.told = [progress(TWO, 5)]
    async with serving(path, engine):
        await until(lambda: link.alive)
        assert link.progress(ONE) is None
        assert link.progress(TWO) == progress(TWO, 5)
    await until(lambda: heard.count(None) == 4)  # came, went, came, went


async def test_a_nudge_is_remembered_while_the_node_is_away(path: Path, link: SocketNodeLink) -> None:
    link.nudge()
    engine = FakeEngine()
    async with serving(path, engine):
        await until(lambda: engine.heard)
        link.nudge()
        await until(lambda: len(engine.heard) == 2)
    assert [command for command, _ in engine.heard] == [Nudge(), Nudge()]


async def test_events_can_be_for_one_connection(path: Path, link: SocketNodeLink) -> None:
    engine = FakeEngine()
    other = SocketNodeLink(path, SystemClock())
    heard: list[Event | None] = []
    unheard: list[Event | None] = []
    async with serving(path, engine) as server:
        await until(lambda: link.alive)
        await link.call(Watch(ONE))
        await other.start()
        await until(lambda: other.alive)
        link.listen(heard.append)
        other.listen(unheard.append)
        server.send(engine.heard[0][1], Durable(ONE, [1, 2]))
        server.send(99, Durable(ONE, [3]))
        await until(lambda: heard)
        await other.call(Watch(ONE))
        assert heard == [Durable(ONE, [1, 2])]
        assert not unheard
        await other.aclose()


async def test_a_connection_that_ends_is_told_of(path: Path) -> None:
    engine = FakeEngine()
    async with serving(path, engine):
        link = SocketNodeLink(path, SystemClock())
        await link.start()
        await until(lambda: link.alive)
        await link.aclose()
        await until(lambda: engine.gone == [1])


async def test_a_client_that_does_not_read_is_cut_off(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "_FALLEN_BEHIND", 1 << 20)
    engine = FakeEngine()
    async with serving(path, engine) as server:
        _, writer = await asyncio.open_unix_connection(path, limit=1024)
        await until(lambda: server._writers)
        news: list[Event] = [Durable(ONE, list(range(20_000)))]
        for _ in range(200):
            server.broadcast(news)
        await until(lambda: engine.gone)
        writer.transport.abort()
    assert "does not keep up" in caplog.text


async def test_a_slow_client_comes_back_and_gets_a_snapshot(
    path: Path, link: SocketNodeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "_FALLEN_BEHIND", 1 << 20)
    engine = FakeEngine()
    async with serving(path, engine) as server:
        await until(lambda: link.alive)
        engine.told = [VITALS, progress(ONE, 9)]
        news: list[Event] = [Durable(ONE, list(range(20_000)))]
        for _ in range(200):
            server.broadcast(news)
        await until(lambda: link.progress(ONE))
        assert engine.gone == [1]


GARBAGE = [b"", b"\x00", b"\x00\x00\x00\x05ab", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"GET / HTTP/1.1\r\n\r\n"]
CUT = pack(Call(1, Watch(ONE)))[:-3]


@pytest.mark.parametrize("bytes_", [*GARBAGE, CUT], ids=repr)
async def test_garbage_ends_its_own_connection_alone(path: Path, link: SocketNodeLink, bytes_: bytes) -> None:
    engine = FakeEngine()
    async with serving(path, engine):
        await until(lambda: link.alive)
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(bytes_)
        writer.write_eof()
        await until(lambda: engine.gone)
        writer.close()
        assert await link.call(Watch(ONE)) == MAP


@pytest.mark.parametrize("answer", [*GARBAGE, pack(Down(told=Told([VITALS])))[:-1]], ids=repr)
async def test_a_link_survives_whatever_the_other_end_says(path: Path, link: SocketNodeLink, answer: bytes) -> None:
    met = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        await until(lambda: met >= 2)
    path.unlink(missing_ok=True)
    async with serving(path, FakeEngine()):
        await until(lambda: link.alive)
        assert await link.call(Watch(ONE)) == MAP


async def test_a_link_does_not_knock_without_a_pause(path: Path, link: SocketNodeLink) -> None:
    met = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        await until(lambda: met)
        await asyncio.sleep(0.4)
    assert met < 6


async def test_a_listener_that_fails_harms_nobody(
    path: Path, link: SocketNodeLink, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event | None] = []

    def fail(event: Event | None) -> None:
        raise ZeroDivisionError

    link.listen(fail)
    end = link.listen(heard.append)
    async with serving(path, FakeEngine()) as server:
        await until(lambda: VITALS in heard)
        end()
        end()
        server.broadcast([Changed(ONE)])
        await link.call(Watch(ONE))
        assert Changed(ONE) not in heard
    assert "ZeroDivisionError" in caplog.text


async def test_nothing_is_left_running(path: Path) -> None:
    before = asyncio.all_tasks()
    engine = FakeEngine()
    engine.blocked.clear()
    async with serving(path, engine):
        link = SocketNodeLink(path, SystemClock())
        await link.start()
        await until(lambda: link.alive)
        call = asyncio.create_task(link.call(Watch(ONE)))
        await until(lambda: engine.running)
        await link.aclose()
        with pytest.raises(Unavailable):
            await call
    assert asyncio.all_tasks() == before
    assert not path.exists()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for decoder in (frames.calls, frames.downs):
        with suppress(msgspec.MsgspecError):
            decoder.decode(data)


async def test_a_frame_over_the_bound_is_refused_before_it_is_read() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data((frames.MAX_FRAME + 1).to_bytes(4, "big"))
    with pytest.raises(ValueError, match="too long"):
        await frames.read(reader)
