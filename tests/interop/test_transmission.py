"""Transmission as a peer of our engine, in both directions."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live import Live, until
from swarm import LOCAL, make_torrent, noise
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent

PROGRAM = shutil.which("transmission-cli")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="!!! transmission-cli is not installed: it is NOT tested as a peer")
SETTINGS = {
    "bind-address-ipv4": LOCAL,
    "bind-address-ipv6": "::1",
    "dht-enabled": False,
    "lpd-enabled": False,
    "pex-enabled": False,
    "utp-enabled": False,
    "port-forwarding-enabled": False,
}


@contextmanager
def transmission(folder: Path, torrent: Torrent) -> Iterator[str]:
    """Transmission on a torrent whose files are, or will be, in `folder`. Where peers reach it."""
    assert PROGRAM
    own = folder.parent / f"{folder.name}.config"
    own.mkdir()
    folder.mkdir(exist_ok=True)
    (own / "settings.json").write_text(json.dumps(SETTINGS))
    (own / "x.torrent").write_bytes(torrent.raw)
    with socket.socket() as free:
        free.bind((LOCAL, 0))
        port = free.getsockname()[1]
    options = ["-g", str(own), "-w", str(folder), "-p", str(port), "--no-portmap", "--verify"]
    process = subprocess.Popen(
        [PROGRAM, *options, str(own / "x.torrent")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"{LOCAL}:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def test_transmission_and_our_engine_give_each_other_all_they_have(tmp_path: Path) -> None:
    content = noise(700_000, seed=4)
    torrent = make_torrent(tmp_path / "made", content, name="film.mkv")
    with Live(tmp_path / "data") as server:
        with transmission(tmp_path / "made", torrent) as peer:
            id = server.add(str(Magnet(torrent.hash, peers=(peer,))))
            done = server.status(id, "downloaded", timeout=60)
        assert server.read(server.link(done["files"][0])) == content
        with transmission(tmp_path / "fetched", torrent) as peer:
            server.add(str(Magnet(torrent.hash, peers=(peer,))))  # we call it, and it asks us
            found = tmp_path / "fetched" / "film.mkv"
            until(lambda: found.exists() and found.read_bytes() == content, 60)
