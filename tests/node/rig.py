"""A node in the test's own process, with real rows and a real socket, and what a server would see of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from swarm import LOCAL, Seed
from torz.bus.socket import NodeServer, SocketNodeLink
from torz.config import Config, load
from torz.db.accounts import SqliteTorzRepo
from torz.db.nodes import SqliteNodeRepo
from torz.db.sqlite import Database
from torz.domain.errors import Unavailable
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import TorzStatus
from torz.node.files import DataFolder
from torz.node.node import Node
from torz.node.publisher import Publisher
from torz.node.readers import Readers
from torz.ports.clock import SystemClock
from torz.ports.node import Event, PieceMap, Watch
from torz.ports.repo import HeldTorz, Layout

ACCOUNT = "ann"
QUIET = {
    "TORZ_ENGINE_LISTEN": f"{LOCAL}:0",
    "TORZ_ENGINE_ALLOW_PRIVATE": "true",
    "TORZ_ENGINE_DHT": "false",
    "TORZ_ENGINE_LSD": "false",
    "TORZ_ENGINE_TRANSPORT": "tcp",
    "TORZ_DISK_RESERVE": "0",
}
"""An engine that talks to this machine alone."""


def settings(folder: Path, **more: str) -> Config:
    """`more` is named as the variables are, without their prefix."""
    return load(environ={**QUIET, "TORZ_DATA_DIR": str(folder)} | {f"TORZ_{k.upper()}": v for k, v in more.items()})


class Rig:
    """Rows in, events out."""

    def __init__(self, folder: Path, database: Database, node: Node, link: SocketNodeLink) -> None:
        self.folder = folder
        self.node = node
        self.link = link
        self.repo = SqliteTorzRepo(database)
        self.rows = SqliteNodeRepo(database)
        self.events: list[Event] = []
        self._news = asyncio.Event()
        link.listen(self._hear)

    def _hear(self, event: Event | None) -> None:
        if event is not None:
            self.events.append(event)
        self._news.set()

    async def add(self, source: Torrent | Magnet, *seeds: Seed, trackers: tuple[str, ...] = ()) -> str:
        """Want a torrent, and tell where its seeds are. The torz id."""
        id = await self.repo.add(ACCOUNT, source, int(time.time()))
        if seeds or trackers:
            hash = source.hash
            v2 = source.v2
            peers = tuple(seed.address for seed in seeds)
            await self.repo.add(ACCOUNT, Magnet(hash, v2, trackers=trackers, peers=peers), int(time.time()))
        self.link.nudge()
        return id

    async def get(self, id: str) -> HeldTorz:
        held = await self.repo.get(ACCOUNT, id)
        assert held
        return held

    async def layout(self, source: Torrent | Magnet) -> Layout:
        layout = await self.repo.layout(source.hash.short.raw)
        assert layout
        return layout

    def data(self, source: Torrent | Magnet) -> Path:
        """The folder of a torrent."""
        return self.folder / "torrents" / source.hash.short.raw.hex()

    async def until(self, holds: Callable[[], object], timeout: float = 20) -> None:
        """Look again at every event, and every now and then."""
        async with asyncio.timeout(timeout):
            while not holds():
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._news.wait()

    async def status(self, id: str, *wanted: TorzStatus, timeout: float = 20) -> HeldTorz:
        """Wait until the rows say so."""
        async with asyncio.timeout(timeout):
            while (held := await self.get(id)).status not in wanted:
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._news.wait()
        return held

    async def complete(self, id: str, timeout: float = 20) -> HeldTorz:
        held = await self.status(id, TorzStatus.DOWNLOADED, TorzStatus.FAILED, TorzStatus.INVALID, timeout=timeout)
        assert held.complete, (held.status, held.message)
        return held

    async def watch(self, source: Torrent | Magnet, timeout: float = 10) -> PieceMap:
        """As soon as the node can tell."""
        async with asyncio.timeout(timeout):
            while True:
                try:
                    found = await self.link.call(Watch(source.hash.short.raw))
                except Unavailable:
                    await asyncio.sleep(0.02)
                else:
                    assert found
                    return found


@asynccontextmanager
async def running(folder: Path, free: Callable[[], int] | None = None, **more: str) -> AsyncIterator[Rig]:
    """From the start of a node to its orderly stop."""
    config = settings(folder, **more)
    data = DataFolder(folder)
    data.prepare()
    database = Database(folder / "torz.db")
    await database.open()
    socket = folder / "n.sock"
    node = Node(config, SqliteNodeRepo(database), data, free)
    server = NodeServer(socket, node.handle, lambda: publisher.snapshot(node.held()), lambda n: readers.gone(n))
    publisher = Publisher(server)
    readers = Readers(lambda: server, data)
    stop = asyncio.Event()
    link = SocketNodeLink(socket, SystemClock())
    task = asyncio.create_task(node.run(server, publisher, readers, stop))
    try:
        await link.start()
        rig = Rig(folder, database, node, link)
        await rig.until(lambda: link.alive or task.done(), 5)
        yield rig
    finally:
        stop.set()
        await task
        await link.aclose()
        await database.aclose()
