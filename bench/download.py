"""A download on loopback against bare libtorrent with the same settings, from the same seed, in turns."""

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rig import CREDENTIALS, PATIENCE, SETTINGS, Figure, Seed, Server, folder, magnet, random_file, say, seeding, server

_SIZE = 1 << 30
_ROUNDS = 5
_LOOK = 0.02
"""Seconds between questions to either."""

_BARE = """
import sys, time
import libtorrent as lt
from torz.config import load
from torz.node import engine

params = lt.session_params()
params.settings = engine._settings(load())
session = lt.session(params)
torrent = lt.load_torrent_buffer(open(sys.argv[1], "rb").read())
torrent.save_path = sys.argv[2]
torrent.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
handle = session.add_torrent(torrent)
handle.connect_peer(("127.0.0.1", int(sys.argv[3])))
while not handle.status(0).is_seeding:
    session.pop_alerts()
    time.sleep(float(sys.argv[4]))
"""


def run() -> Iterator[Figure]:
    bare, ours = [], []
    with folder() as data:
        big = random_file(data / "big.bin", _SIZE)
        with seeding(big) as (seed,):
            (data / "big.torrent").write_bytes(seed.torrent)
            with server(data / "data") as torz:
                for number in range(_ROUNDS + 1):
                    both = [lambda: bare.append(_bare(data, seed)), lambda: ours.append(_ours(data, torz, seed))]
                    for each in both if number % 2 else reversed(both):
                        each()
    ratio = statistics.median(one / other for one, other in zip(bare[1:], ours[1:], strict=True))
    rate, peer = (f"{_SIZE / statistics.median(one[1:]) / 1e6:.0f} MB/s" for one in (ours, bare))
    what = "download on loopback, 1 GB, ÷ bare libtorrent"
    yield Figure(what, rate, "at least 0.95 of it", ratio >= 0.95, peer, round(ratio, 2))


def _bare(data: Path, seed: Seed) -> float:
    """Until libtorrent says that it has all."""
    target = data / "bare"
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _BARE, str(data / "big.torrent"), str(target), str(seed.port), str(_LOOK)]
    with subprocess.Popen(command, env={**os.environ, **SETTINGS}) as process:
        took = _measure(target / "big.bin", lambda: process.poll() is not None)
        assert process.wait() == 0
    (target / "big.bin").unlink()
    return took


def _ours(data: Path, torz: Server, seed: Seed) -> float:
    """Until a client of the API hears `downloaded`, and the file is safe to serve."""
    path = data / "data" / "torrents" / seed.hash / "big.bin"
    connection = http.client.HTTPConnection("127.0.0.1", torz.port)
    id = torz.add(magnet(seed))

    def is_downloaded() -> bool:
        connection.request("GET", f"/v0/store/torz/{id}", headers=CREDENTIALS)
        return bool(json.loads(connection.getresponse().read())["data"]["status"] == "downloaded")

    took = _measure(path, is_downloaded)
    connection.close()
    torz.ask("DELETE", f"/v0/store/torz/{id}")
    _wait(lambda: not path.exists())
    return took


def _measure(path: Path, is_done: Callable[[], bool]) -> float:
    """Seconds from the first byte on disk: when a peer is connected is left to chance, up to a second of it."""
    _wait(lambda: path.exists() and path.stat().st_blocks > 0)
    began = time.perf_counter()
    _wait(is_done)
    return time.perf_counter() - began


def _wait(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, "the download hangs"
        time.sleep(_LOOK)


if __name__ == "__main__":
    say(run)
