"""Torrents and magnets that mean harm, private ones, and what the engine may talk to."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.rig import Rig, running, settings
from swarm import Seed, Tracker, bare_magnet, make_torrent, noise, same
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.torz import TorzStatus
from torz.node import engine, files
from torz.node.guard import PRIVATE, private_filter
from torz.ports.repo import Layout, Place

pytestmark = pytest.mark.anyio
DATA = noise(40_000)
Info = dict[bytes, Any]


def info(**more: Any) -> Info:
    length = more.get("piece_length", 16384)
    data = more.pop("data", DATA)
    pieces = b"".join(hashlib.sha1(data[i : i + length]).digest() for i in range(0, len(data), length))
    given = {key.replace("_", " ").encode(): value for key, value in more.items()}
    return {b"name": b"t", b"piece length": length, b"pieces": pieces} | given


def listed(*entries: tuple[list[bytes], int] | tuple[list[bytes], int, dict[bytes, Any]], **more: Any) -> Info:
    listing = [{b"path": e[0], b"length": e[1], **(e[2] if len(e) > 2 else {})} for e in entries]
    return info(files=listing, **more)


LINK = {b"attr": b"l", b"symlink path": [b"..", b"..", b"..", b"etc", b"passwd"]}
INSIDE = {b"attr": b"l", b"symlink path": [b"a"]}
HARMLESS = {
    "dots in a path": listed(([b"..", b"..", b"up"], 40_000)),
    "an absolute path": listed(([b"/etc/passwd"], 40_000)),
    "separators in a name": listed(([b"a/../../b"], 20_000), ([b"c\\d"], 20_000)),
    "dots as the name": listed(([b"a"], 40_000), name=b".."),
    "a path as the name": listed(([b"a"], 40_000), name=b"a/../../b"),
    "controls": listed(([b"a\nb\x1b[31m\x00c"], 20_000), (["‮gpj.exe".encode()], 20_000)),
    "not UTF-8": listed(([b"\xff\xfe"], 40_000)),
    "equal names": listed(([b"a"], 20_000), ([b"a"], 10_000), ([b"A"], 10_000)),
    "a file and a folder of one name": listed(([b"a"], 20_000), ([b"a", b"b"], 20_000)),
    "names that shells and other systems trip over": listed(
        ([b"CON"], 10_000), ([b"-rf"], 10_000), ([b"$(id)"], 10_000), ([b"end. "], 10_000)
    ),
    "a long element": listed(([b"x" * 300], 40_000)),
    "a symlink out of the torrent": listed(([b"a"], 40_000), ([b"l"], 0, LINK)),
    "a symlink within it": listed(([b"a"], 40_000), ([b"l"], 0, INSIDE)),
    "a folder that a symlink takes the place of": listed(
        ([b"d"], 0, {b"attr": b"l", b"symlink path": [b".."]}), ([b"d", b"a"], 40_000)
    ),
    "padding": listed(([b"a"], 10_000), ([b".pad", b"6384"], 6384, {b"attr": b"p"}), ([b"b"], 23_616)),
    "an executable": listed(([b"a"], 40_000, {b"attr": b"x"})),
    "empty files": listed(([b"a"], 0), ([b"b"], 40_000), ([b"c"], 0)),
}
HARMFUL = {
    "pieces of 17 bytes": info(piece_length=17, data=DATA[:170], length=170),
    "pieces of 128 MiB": info(piece_length=128 << 20, length=40_000),
}


class Raw:
    """What the engine takes, whatever we think of it."""

    def __init__(self, info: Info) -> None:
        self.raw = lt.bencode({b"info": info})
        self.hash = InfoHash(hashlib.sha1(lt.bencode(info)).digest())
        self.v2 = None

    def write(self, folder: Path) -> None:
        """Have its content where an engine would look for it."""
        params = lt.load_torrent_buffer(self.raw)
        assert params.ti
        storage = params.ti.layout()
        for index in range(storage.num_files()):
            if not storage.file_flags(index) & (lt.file_storage.flag_pad_file | lt.file_storage.flag_symlink):
                path = folder / (params.renamed_files.get(index) or storage.file_path(index))
                start = storage.file_offset(index)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(DATA[start : start + storage.file_size(index)])


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def is_within(path: str) -> bool:
    return not path.startswith("/") and not {"", ".", ".."} & set(path.split("/"))


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_looks_hostile_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    raw = Raw(HARMLESS[name])
    if name == "padding":  # padding is zeros
        data = DATA[:10_000] + bytes(6384) + DATA[16384:]
        raw = Raw(HARMLESS[name] | {b"pieces": info(data=data)[b"pieces"]})
    (tmp_path / "seed").mkdir()
    raw.write(tmp_path / "seed")
    with Seed(raw, tmp_path / "seed") as seed:  # type: ignore[arg-type]
        async with running(tmp_path / "node") as rig:
            outside = below(tmp_path) - below(tmp_path / "node")
            id = await rig.add(bare_magnet(raw, seed), seed)  # type: ignore[arg-type]
            held = await rig.status(id, TorzStatus.DOWNLOADED, TorzStatus.INVALID, TorzStatus.FAILED)
            folder = rig.folder / "torrents" / str(raw.hash)
            found = list(folder.rglob("*")) if folder.exists() else []
            assert not [path for path in found if path.is_symlink()]
            assert all(path.resolve().is_relative_to(folder) for path in found)
            assert {p for p in below(tmp_path) - outside if not p.startswith("node")} == set()
            if held.status is TorzStatus.DOWNLOADED:
                layout = await rig.layout(bare_magnet(raw))  # type: ignore[arg-type]
                assert all(is_within(place.path) for place in layout.places)
                for place in layout.places:
                    want = DATA[place.offset : place.offset + place.size]
                    assert (folder / place.path).read_bytes() == want
            else:
                assert held.message
    print(held.status.value, held.message)


@pytest.mark.parametrize("name", HARMFUL)
async def test_harmful_metadata_from_a_peer_is_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    raw = Raw(HARMFUL[name])
    (tmp_path / "seed").mkdir()
    with Seed(raw, tmp_path / "seed") as seed:  # type: ignore[arg-type]
        async with running(tmp_path / "node") as rig:
            id = await rig.add(bare_magnet(raw, seed), seed)  # type: ignore[arg-type]
            held = await rig.status(id, TorzStatus.INVALID, TorzStatus.DOWNLOADED, TorzStatus.FAILED)
            assert held.status is TorzStatus.INVALID
            assert held.message.endswith(".")
            await rig.until(lambda: not rig.node.held() and rig.link.progress(raw.hash.raw) is None)
            assert not (rig.folder / "torrents" / str(raw.hash)).exists()


async def test_a_failing_torrent_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = Raw(HARMFUL["pieces of 17 bytes"])
    good = make_torrent(tmp_path / "seed", DATA)
    with Seed(good, tmp_path / "seed") as seed:
        seed.add(bad, tmp_path / "seed")  # type: ignore[arg-type]
        async with running(tmp_path / "node") as rig:
            (rig.folder / "torrents" / ("ab" * 20)).write_text("a file where a folder should be")
            blocked = await rig.add(Magnet(InfoHash(b"\xab" * 20)))
            first = await rig.add(bare_magnet(bad, seed), seed)  # type: ignore[arg-type]
            second = await rig.add(good, seed)
            await rig.complete(second)
            await rig.status(first, TorzStatus.INVALID)
            assert (await rig.get(blocked)).status is TorzStatus.QUEUED


# Private torrents


async def _trackers(rig: Rig) -> list[str]:
    (held,) = rig.node.held()
    return [tracker["url"] for tracker in held.handle.trackers()]


async def test_a_private_torrent_asks_its_own_trackers_alone(tmp_path: Path) -> None:
    async with Tracker() as own, Tracker() as foreign:
        torrent = make_torrent(tmp_path / "seed", DATA, private=True, trackers=(own.url,))
        with Seed(torrent, tmp_path / "seed") as seed:
            own.seeds = [seed]
            async with running(tmp_path / "node", engine_pex="true", engine_lsd="false") as rig:
                id = await rig.add(torrent, trackers=(foreign.url,))
                await rig.complete(id)
                assert await _trackers(rig) == [own.url]
                flags = rig.node.held()[0].handle.flags()
                for off in (lt.torrent_flags.disable_dht, lt.torrent_flags.disable_pex, lt.torrent_flags.disable_lsd):
                    assert flags & off or rig.node.held()[0].handle.torrent_file().priv()
        assert torrent.hash.raw in own.asked
        assert not foreign.asked


async def test_a_public_torrent_asks_whoever_anybody_named(tmp_path: Path) -> None:
    async with Tracker() as one, Tracker() as two:
        torrent = make_torrent(tmp_path / "seed", DATA, trackers=(one.url,))
        with Seed(torrent, tmp_path / "seed") as seed:
            two.seeds = [seed]
            async with running(tmp_path / "node") as rig:
                id = await rig.add(torrent)
                await rig.until(lambda: one.asked)
                await rig.add(Magnet(torrent.hash, trackers=(two.url,)))
                await rig.complete(id)
                assert same(tmp_path / "seed", rig.data(torrent))
            assert "stopped" in two.events


async def test_no_passkey_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with Tracker() as tracker:
        secret = tracker.url.replace("/announce", "/announce/0123456789abcdef")
        torrent = make_torrent(tmp_path / "seed", DATA, private=True, trackers=(secret,))
        with Seed(torrent, tmp_path / "seed") as seed:
            tracker.seeds = [seed]
            async with running(tmp_path / "node") as rig:
                await rig.complete(await rig.add(torrent))
    assert "0123456789abcdef" not in caplog.text


# What the engine may talk to


@pytest.mark.parametrize("network", PRIVATE)
def test_private_networks_are_blocked(network: str) -> None:
    import ipaddress

    found = ipaddress.ip_network(network)
    for address in (found[0], found[-1]):
        assert private_filter().access(str(address)) == 1
    for address in ("1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111"):
        assert private_filter().access(address) == 0


async def test_a_peer_on_this_machine_is_left_alone_unless_the_operator_allows_it(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", DATA)
    async with Tracker() as tracker:
        with Seed(torrent, tmp_path / "seed") as seed:
            tracker.seeds = [seed]
            async with running(tmp_path / "node", engine_allow_private="false") as rig:
                id = await rig.add(torrent, seed, trackers=(tracker.url,))
                await rig.until(lambda: rig.node.held() and rig.node.held()[0].is_loaded)
                await asyncio.sleep(1.5)
                assert not (await rig.get(id)).complete
        assert not tracker.asked


def test_the_settings_are_the_engines(tmp_path: Path) -> None:
    quiet = engine._settings(settings(tmp_path))
    assert quiet["dht_bootstrap_nodes"] == quiet["webtorrent_stun_server"] == ""
    assert quiet["allow_multiple_connections_per_ip"]
    assert not quiet["dht_restrict_routing_ips"]
    loud = engine._settings(settings(tmp_path, engine_dht="true", engine_allow_private="false"))
    assert "dht_bootstrap_nodes" not in loud
    assert not loud["allow_multiple_connections_per_ip"]
    assert "dht_restrict_routing_ips" not in loud


async def test_a_download_limit_holds_on_this_machine_too(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(3 << 20), piece_length=65536)
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node", engine_download_limit="1MB") as rig:
            id = await rig.add(torrent, seed)
            await asyncio.sleep(1)
            assert not (await rig.get(id)).complete
            await rig.complete(id)


async def test_the_two_hashes_of_a_hybrid_are_one_torrent(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", DATA, version="hybrid")
    assert torrent.v2
    with Seed(torrent, tmp_path / "seed") as seed:
        async with running(tmp_path / "node") as rig:
            id = await rig.add(Magnet(torrent.v2, peers=(seed.address,)))
            await rig.complete(id)
        async with running(tmp_path / "node") as rig:  # it is found again under the hash it was asked for by
            await rig.until(lambda: rig.node.held() and rig.node.held()[0].is_loaded)
            other = await rig.add(torrent, seed)
            held = await rig.status(other, TorzStatus.FAILED, TorzStatus.DOWNLOADED)
            assert "other info hash" in held.message
            assert (await rig.get(id)).complete


# Files


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, bytes]:
    """Files with padding between some of them, and all their bytes."""
    places, data = [], b""
    for index, size in enumerate(draw(st.lists(st.integers(0, 50), min_size=1, max_size=8))):
        data += bytes(draw(st.integers(0, 9)))
        places.append(Place(index, f"{index}", len(data), size))
        data += bytes([index + 1]) * size
    return Layout(16384, places), data


@given(layouts(), st.integers(0, 500), st.integers(0, 500))
def test_a_span_is_the_bytes_of_its_files(laid: tuple[Layout, bytes], start: int, length: int) -> None:
    layout, data = laid
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"torz-span-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    for place in layout.places:
        (folder / place.path).write_bytes(bytes([place.index + 1]) * place.size)
    start = min(start, len(data))
    stop = min(start + length, len(data))
    try:
        assert files.read_span(folder, layout, start, stop) == data[start:stop]
    finally:
        for place in layout.places:
            (folder / place.path).unlink()
        folder.rmdir()
