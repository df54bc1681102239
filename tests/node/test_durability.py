"""What is on disk survives what may happen to a node and to its disk."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.rig import running
from swarm import Seed, bare_magnet, make_torrent, noise, same
from torz.db.nodes import SqliteNodeRepo
from torz.domain.metainfo import Torrent
from torz.domain.torz import TorzStatus
from torz.domain.videohash import EDGE, video_hash
from torz.node import files, node
from torz.ports.node import Lost
from torz.ports.repo import decode_files

pytestmark = pytest.mark.anyio
MIB = 1 << 20


async def test_a_complete_torrent_is_synced_and_its_videos_are_hashed(tmp_path: Path) -> None:
    data = noise(300_000)
    torrent = make_torrent(tmp_path / "seed", {"a.mkv": data, "b.mkv": b"short", "c.srt": noise(200_000)})
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(torrent, seed)
            held = await rig.complete(id)
            assert held.files
            hashes = {file.path: file.video_hash for file in decode_files(held.files)}
            assert hashes == {"/a.mkv": video_hash(300_000, data[:EDGE], data[-EDGE:]), "/b.mkv": "", "/c.srt": ""}
            async with asyncio.timeout(5):
                while not (await rig.rows.desired(0))[0].synced:  # noqa: ASYNC110 - only the row tells
                    await asyncio.sleep(0.01)


async def test_a_complete_torrent_is_seeded_again_after_a_restart(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(MIB), version="hybrid")
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            await rig.complete(await rig.add(torrent, seed))
    async with running(tmp_path / "node") as rig:
        await rig.until(lambda: [held for held in rig.node.held() if held.is_loaded and held.complete])
        await asyncio.sleep(0.3)
        assert (await rig.rows.desired(0))[0].complete
        assert not [event for event in rig.events if isinstance(event, Lost)]


async def test_as_many_are_seeded_as_the_settings_allow_the_latest_first(tmp_path: Path) -> None:
    torrents = [make_torrent(tmp_path / "seed", noise(50_000, n), name=f"{n}.mkv") for n in range(5)]
    with Seed(torrents[0], tmp_path / "seed") as seed:
        for torrent in torrents[1:]:
            seed.add(torrent, tmp_path / "seed")
        async with running(tmp_path / "node", engine_seeds="2") as rig:
            for torrent in torrents:
                id = await rig.add(torrent, seed)
                await rig.complete(id)
                await rig.rows.complete(torrent.hash.raw, 1000 + torrents.index(torrent))
                for held in rig.node.held():
                    held.used_at = 1000 + [t.hash.raw for t in torrents].index(held.hash)
            await rig.until(lambda: len(rig.node.held()) == 2)
            assert {held.hash for held in rig.node.held()} == {t.hash.raw for t in torrents[3:]}
            assert len(await rig.rows.desired(0)) == 5
    async with running(tmp_path / "node", engine_seeds="3") as rig:
        await rig.until(lambda: len(rig.node.held()) == 3)
        assert {held.hash for held in rig.node.held()} == {t.hash.raw for t in torrents[2:]}


async def _half(tmp_path: Path, seed: int = 1) -> tuple[Torrent, str, int]:
    """A node that was stopped in the middle of a download: the torrent, the torz id, and the bytes it had."""
    torrent = make_torrent(tmp_path / "seed", noise(8 * MIB, seed), piece_length=MIB // 4)
    with Seed(torrent, tmp_path / "seed", upload_limit=4 * MIB) as source:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(torrent, source)
            await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and p.done >= 3 * MIB)
            progress = rig.link.progress(torrent.hash.raw)
            assert progress
            return torrent, id, progress.done


def _resume(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "node" / "resume").glob("*.resume")
    return found


LEVERS = {
    "an orderly stop": lambda folder: None,
    "no word of an orderly stop": lambda folder: (folder / "node.clean").unlink(),
    "resume data cut": lambda folder: os.truncate(next((folder / "resume").glob("*.resume")), 300),
    "resume data empty": lambda folder: os.truncate(next((folder / "resume").glob("*.resume")), 0),
    "resume data garbage": lambda folder: next((folder / "resume").glob("*.resume")).write_bytes(b"\xff" * 999),
    "no resume data": lambda folder: shutil.rmtree(folder / "resume"),
}


@pytest.mark.parametrize("lever", LEVERS)
async def test_what_was_downloaded_is_kept_whatever_happened_to_the_notes(tmp_path: Path, lever: str) -> None:
    torrent, id, done = await _half(tmp_path)
    for previous in (tmp_path / "node" / "resume").glob("*.prev"):
        previous.unlink()
    LEVERS[lever](tmp_path / "node")
    async with running(tmp_path / "node") as rig:  # nobody has it any more: what is there was there
        await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and p.done >= done)
        with Seed(torrent, tmp_path / "seed") as seed:
            await rig.add(torrent, seed)
            await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))


async def test_damaged_resume_data_gives_way_to_what_was_before(tmp_path: Path) -> None:
    torrent, _, _ = await _half(tmp_path)
    resume = _resume(tmp_path)
    shutil.copy(resume, resume.with_suffix(".prev"))
    resume.write_bytes(b"d8:announce")
    async with running(tmp_path / "node") as rig:
        await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and p.done >= 3 * MIB)
        assert TorzStatus.PROCESSING not in [getattr(event, "status", None) for event in rig.events]


async def test_resume_data_of_another_torrent_is_not_believed(tmp_path: Path) -> None:
    torrent, id, _ = await _half(tmp_path)
    await _half(tmp_path / "other", 2)
    shutil.copy(_resume(tmp_path / "other"), _resume(tmp_path))
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            await rig.add(torrent, seed)
            await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))


async def test_after_a_crash_of_the_machine_what_was_not_synced_is_checked_before_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(4 * MIB), piece_length=MIB // 4)
    monkeypatch.setattr(SqliteNodeRepo, "synced", lambda *_: asyncio.sleep(0))
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(torrent, seed)
            await rig.complete(id)
        (tmp_path / "node" / "node.clean").unlink()
        (tmp_path / "node" / "node.boot").write_text("another")
        path = next(path for path in rig.data(torrent).rglob("*") if path.is_file())
        with path.open("r+b") as file:  # as a file system may leave it
            file.seek(MIB)
            file.write(bytes(MIB // 2))
        async with running(tmp_path / "node") as rig:
            await rig.status(id, TorzStatus.PROCESSING, TorzStatus.DOWNLOADING)
            assert not (await rig.get(id)).complete
            await rig.add(torrent, seed)
            await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))


async def test_what_is_complete_is_trusted_while_the_machine_stays_up(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(MIB))
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(torrent, seed)
            await rig.complete(id)
    (tmp_path / "node" / "node.clean").unlink()
    async with running(tmp_path / "node") as rig:
        await rig.until(lambda: [held for held in rig.node.held() if held.is_loaded])
        await asyncio.sleep(0.3)
        assert (await rig.get(id)).status is TorzStatus.DOWNLOADED


@pytest.mark.parametrize("harm", ["deleted", "cut"])
async def test_a_complete_torrent_whose_files_are_gone_fails_and_is_not_fetched_again(
    tmp_path: Path, harm: str
) -> None:
    torrent = make_torrent(tmp_path / "seed", {"a": noise(300_000), "b": noise(300_000, 2)})
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(torrent, seed)
            await rig.complete(id)
            path = next(rig.data(torrent).rglob("b"))
        whole = path.read_bytes()
        path.unlink() if harm == "deleted" else os.truncate(path, 1000)
        for _ in range(2):
            async with running(tmp_path / "node") as rig:
                held = await rig.status(id, TorzStatus.FAILED)
                assert "missing or cut" in held.message
                assert not rig.node.held()
                assert not path.exists() or path.stat().st_size == 1000
        path.write_bytes(whole)  # the disk is back
        async with running(tmp_path / "node") as rig:
            await rig.status(id, TorzStatus.DOWNLOADED)


async def test_a_file_that_is_deleted_while_it_is_seeded_fails_the_torrent(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(4 * MIB), piece_length=MIB // 4)
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "one") as first:
            id = await first.add(torrent, seed)
            await first.complete(id)
            shutil.rmtree(first.data(torrent))
            async with running(tmp_path / "two") as second:
                address = f"127.0.0.1:{first.node._port}"
                magnet = bare_magnet(torrent)
                await second.repo.add("ann", torrent, 1)
                await second.repo.add("ann", type(magnet)(magnet.hash, peers=(address,)), 1)
                second.link.nudge()
                held = await first.status(id, TorzStatus.FAILED)
                assert "missing" in held.message


@pytest.mark.parametrize("is_watched", [False, True])
async def test_a_file_that_is_deleted_while_it_is_downloaded_is_fetched_again(tmp_path: Path, is_watched: bool) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(8 * MIB), piece_length=MIB // 4)
    with Seed(torrent, tmp_path / "seed", upload_limit=3 * MIB) as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(torrent, seed)
            await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and p.done > 2 * MIB)
            if is_watched:
                await rig.watch(torrent)
            next(path for path in rig.data(torrent).rglob("*") if path.is_file()).unlink()
            seed.limit(0)
            await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))


async def test_a_download_waits_while_the_disk_has_no_room_and_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_DISK_LOOK", 0.1)
    torrent = make_torrent(tmp_path / "seed", noise(4 * MIB), piece_length=MIB // 4)
    room = MIB
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node", lambda: room) as rig:
            for source in (torrent, bare_magnet(torrent, seed)):
                room = MIB
                await rig.until(lambda: rig.node._room == MIB)
                id = await rig.add(source, seed)
                await rig.until(
                    lambda: (p := rig.link.progress(torrent.hash.raw)) and "The disk is full: 4.2 MB" in p.message
                )
                held = await rig.get(id)
                assert (held.status, held.complete) == (TorzStatus.QUEUED, False)
                said = rig.link.progress(torrent.hash.raw)
                assert said
                assert "by itself" in said.message
                room = 5 * MIB
                await rig.complete(id)
                assert same(tmp_path / "seed", rig.data(torrent))
                await rig.repo.remove("ann", id)
                rig.link.nudge()
                await rig.until(lambda: not rig.data(torrent).exists())


async def test_the_reserve_is_left_alone(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(4 * MIB), piece_length=MIB // 4)
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node", lambda: 100 * MIB, disk_reserve="97MB") as rig:
            id = await rig.add(torrent, seed)
            await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and "disk is full" in p.message)
            assert (await rig.get(id)).status is TorzStatus.QUEUED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", path], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


async def test_a_disk_that_fills_up_under_a_download_only_delays_it(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_DISK_LOOK", 0.1)
    torrent = make_torrent(tmp_path / "seed", noise(4 * MIB), piece_length=MIB // 4)
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "torrents").symlink_to(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * MIB))
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node", lambda: 1 << 40) as rig:  # it learns of it from the engine alone
            id = await rig.add(torrent, seed)
            held = await rig.status(id, TorzStatus.QUEUED, TorzStatus.DOWNLOADED)
            await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and "The disk is full" in p.message)
            await asyncio.sleep(1)
            held = await rig.get(id)
            assert not held.complete
            ballast.unlink()
            await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))


async def test_removing_leaves_nothing_behind(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", {"a/b": noise(300_000), "c": b""})
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(torrent, seed)
            await rig.complete(id)
            await rig.repo.remove("ann", id)
            rig.link.nudge()
            await rig.until(lambda: not rig.data(torrent).exists())
            async with asyncio.timeout(5):
                while await rig.rows.desired(0):  # noqa: ASYNC110 - only the row tells
                    await asyncio.sleep(0.01)
            assert not list((tmp_path / "node" / "resume").iterdir())
            assert not rig.node.held()
            assert not rig.node._by_handle
            again = await rig.add(torrent, seed)
            await rig.complete(again)


async def test_removing_and_wanting_again_at_once_starts_anew(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(MIB))
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            for _ in range(5):
                id = await rig.add(torrent, seed)
                await rig.complete(id)
                await rig.repo.remove("ann", id)
                rig.link.nudge()
                id = await rig.add(torrent, seed)
                await asyncio.sleep(0.02)
            await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    data = files.DataFolder(tmp_path)
    data.prepare()
    data.write_resume(b"h" * 20, b"one")
    data.write_resume(b"h" * 20, b"two")
    assert data.read_resume(b"h" * 20) == [b"two", b"one"]
    assert {path.suffix for path in (tmp_path / "resume").iterdir()} == {".resume", ".prev"}


def test_a_mark_of_an_orderly_stop_counts_once(tmp_path: Path) -> None:
    data = files.DataFolder(tmp_path)
    data.prepare()
    assert data.begin() == (False, False)
    data.end()
    assert data.begin() == (True, True)
    assert data.begin() == (False, True)
