"""Many torrents, many alerts, and stops in the middle of all that."""

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from node.rig import running
from swarm import Seed, make_torrent, noise, seeding
from torz.db.accounts import SqliteTorzRepo
from torz.db.nodes import SqliteNodeRepo
from torz.db.sqlite import Database
from torz.domain.bencode import encode
from torz.domain.metainfo import Torrent

pytestmark = pytest.mark.anyio
MIB = 1 << 20


def small(number: int) -> Torrent:
    """A torrent that nobody has."""
    info = {
        b"name": b"%d.mkv" % number,
        b"length": 20_000,
        b"piece length": 16384,
        b"pieces": hashlib.sha1(b"%d" % number).digest() * 2,
    }
    return Torrent.parse(encode({b"info": info}))


async def test_a_thousand_torrents_are_added_in_less_than_two_seconds(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as rig:
        for number in range(1000):
            await rig.repo.add("ann", small(number), 1)
        late = 0.0

        async def watch_the_loop() -> None:
            nonlocal late
            while True:
                begun = time.monotonic()
                await asyncio.sleep(0.005)
                late = max(late, time.monotonic() - begun - 0.005)

        watching = asyncio.create_task(watch_the_loop())
        begun = time.monotonic()
        rig.link.nudge()
        await rig.until(lambda: len(rig.node.held()) == 1000 and all(h.is_loaded for h in rig.node.held()))
        took = time.monotonic() - begun
        watching.cancel()
        print(f"{took:.2f} s, the loop was late by {late * 1000:.0f} ms at most")
        assert took < 2
        begun = time.monotonic()
    print(f"stopped in {time.monotonic() - begun:.2f} s")
    assert time.monotonic() - begun < 10


async def test_ten_thousand_complete_torrents_do_not_hold_up_a_start(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    database = Database(tmp_path / "node" / "torz.db")
    await database.open()
    repo, rows = SqliteTorzRepo(database), SqliteNodeRepo(database)
    for start in range(0, 10_000, 500):
        torrents = [small(number) for number in range(start, start + 500)]
        await asyncio.gather(*(repo.add("ann", torrent, 1) for torrent in torrents))
        await asyncio.gather(*(rows.complete(torrent.hash.raw, 1 + start) for torrent in torrents))
        await asyncio.gather(*(rows.synced(torrent.hash.raw) for torrent in torrents))
    await database.aclose()
    for number in range(9900, 10_000):
        folder = tmp_path / "node" / "torrents" / str(small(number).hash)
        folder.mkdir(parents=True)
        (folder / f"{number}.mkv").write_bytes(bytes(20_000))
    begun = time.monotonic()
    async with running(tmp_path / "node", engine_seeds="100") as rig:
        await rig.until(lambda: len(rig.node.held()) == 100)
        took = time.monotonic() - begun
        used = os.times()
        await asyncio.sleep(2)
        idle = (sum(os.times()[:2]) - sum(used[:2])) / 2
        print(f"{took:.2f} s to start, {100 * idle:.1f} % of a core when idle")
    assert took < 3
    assert idle < 0.02


async def test_lost_alerts_are_made_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torrents = [make_torrent(tmp_path / "seed", noise(MIB // 4, n), name=f"{n}.mkv") for n in range(12)]
    with Seed(torrents[0], tmp_path / "seed") as seed:
        for torrent in torrents[1:]:
            seed.add(torrent, tmp_path / "seed")
        async with running(tmp_path / "node") as rig:
            rig.node._engine._session.apply_settings({"alert_queue_size": 2})
            ids = [await rig.add(torrent, seed) for torrent in torrents]
            for id in ids:
                await rig.complete(id, timeout=40)
            for number, torrent in enumerate(torrents):
                assert (rig.data(torrent) / f"{number}.mkv").read_bytes() == noise(MIB // 4, number)
    assert "more than could be heard" in caplog.text


async def test_a_stop_under_load_does_not_hang(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(64 * MIB), piece_length=MIB // 4)
    with seeding(torrent, tmp_path / "seed", 2) as seeds:
        async with running(tmp_path / "node") as rig:
            await rig.add(torrent, *seeds)
            await rig.watch(torrent)
            await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) is None or p.done)
            begun = time.monotonic()
        print(f"stopped in {time.monotonic() - begun:.2f} s")
        assert time.monotonic() - begun < 10
    assert (tmp_path / "node" / "node.clean").exists()
