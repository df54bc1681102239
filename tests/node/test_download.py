"""Torrents of every kind arrive whole, from real peers."""

from pathlib import Path

import pytest

from node.rig import running
from swarm import Seed, Version, bare_magnet, make_torrent, noise, same
from torz.ports.repo import decode_files

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("version", ["v1", "v2", "hybrid"])
@pytest.mark.parametrize("as_magnet", [False, True], ids=["torrent", "magnet"])
async def test_a_torrent_arrives_whole(tmp_path: Path, version: Version, as_magnet: bool) -> None:
    files = {"one.mkv": noise(300_001), "two/three.srt": noise(5, 2), "empty": b"", "four.bin": noise(70_000, 3)}
    torrent = make_torrent(tmp_path / "seed", files, version=version)
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(bare_magnet(torrent, seed) if as_magnet else torrent, seed)
            held = await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))
            assert held.files
            assert {f.index for f in decode_files(held.files)} == {f.index for f in torrent.visible}
