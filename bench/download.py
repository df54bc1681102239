"""A download on loopback, against bare libtorrent with the same settings, from the same seed, in turns."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.rig import Figure, Seed, folder, magnet, seeding, server

_SIZE = 1 << 30
_ROUNDS = 3

_BARE = """
import sys, time
import libtorrent as lt
from torz.config import load
from torz.node import engine
config = load()
params = lt.session_params()
params.settings = engine._settings(config)
session = lt.session(params)
torrent = lt.load_torrent_buffer(open(sys.argv[1], "rb").read())
torrent.save_path = sys.argv[2]
torrent.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
began = time.perf_counter()
handle = session.add_torrent(torrent)
handle.connect_peer(("127.0.0.1", int(sys.argv[3])))
first = 0
while True:
    status = handle.status(0)
    if not first and status.total_payload_download:
        first = time.perf_counter()
    if status.is_seeding:
        break
    time.sleep(0.01)
print(time.perf_counter() - first)
"""


def run() -> list[Figure]:
    bare, ours = [], []
    with folder() as data:
        with (data / "big.bin").open("wb") as file:
            for _ in range(_SIZE >> 20):
                file.write(os.urandom(1 << 20))
        with seeding(data / "big.bin") as seeds:
            (data / "big.torrent").write_bytes(seeds[0].torrent)
            for number in range(_ROUNDS):
                bare.append(_bare(data, seeds[0], number))
                ours.append(_ours(data, seeds))
    ratio = statistics.median(bare) / statistics.median(ours)
    rate = _SIZE / statistics.median(ours) / 1e6
    said = f"{ratio:.2f} ({rate:.0f} MB/s)"
    return [Figure("download on loopback ÷ bare libtorrent", said, "at least 0.95", ratio >= 0.95)]


def _bare(data: Path, seed: Seed, number: int) -> float:
    from bench.rig import SETTINGS

    target = data / f"bare{number}"
    target.mkdir()
    command = [sys.executable, "-c", _BARE, str(data / "big.torrent"), str(target), str(seed.port)]
    done = subprocess.run(command, env={**os.environ, **SETTINGS}, capture_output=True, text=True, check=True)
    (target / "big.bin").unlink()
    return float(done.stdout)


def _ours(data: Path, seeds: list[Seed]) -> float:
    """From the first payload to `downloaded`, as a client of the API sees it, looking a hundred times a second."""
    with server(data / "data") as torz:
        id = torz.ask("POST", "/v0/store/torz", {"link": magnet(seeds)})["id"]
        hash, first = seeds[0].hash, 0.0
        path = data / "data" / "torrents" / hash / "big.bin"
        while (torz.ask("GET", f"/v0/store/torz/{id}"))["status"] != "downloaded":
            if not first and path.exists():
                first = time.perf_counter()
            time.sleep(0.01)
        took = time.perf_counter() - first
        torz.ask("DELETE", f"/v0/store/torz/{id}")
        while path.exists():
            time.sleep(0.02)
    return took
