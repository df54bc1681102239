"""The first byte of a stream and of a seek, through HTTP, from a slow swarm with pieces of 1 MiB."""

import http.client
import os
import random
import statistics
import time

from bench.rig import Figure, folder, magnet, seeding, server

_SIZE = 256 << 20
_SEEKS = 8
_PLAYED = 3.2
"""Seconds that each place is played for."""


def run() -> list[Figure]:
    one, first = _measure(1, 5_000_000)
    four, _ = _measure(4, 1_250_000)
    return [
        Figure(
            "first byte after a seek, one seed at 5 MB/s",
            f"median {statistics.median(one):.2f} s, worst {max(one):.2f} s",
            "median under 0.45 s, none over 1 s",
            statistics.median(one) < 0.45 and max(one) <= 1,
        ),
        Figure("first byte of a new stream, the same seed", f"{first:.2f} s", "under 1 s", first < 1),
        Figure(
            "first byte after a seek, four seeds at 1.25 MB/s",
            f"median {statistics.median(four):.2f} s, worst {max(four):.2f} s",
            "under 1 s",
            statistics.median(four) < 1,
        ),
    ]


def _measure(seeds: int, limit: int) -> tuple[list[float], float]:
    """Seconds to the first byte of each seek, and of the stream's start."""
    with folder() as data:
        content = os.urandom(_SIZE)
        (data / "film.mkv").write_bytes(content)
        with seeding(data / "film.mkv", limit=limit, count=seeds) as swarm, server(data / "data") as torz:
            id = torz.ask("POST", "/v0/store/torz", {"link": magnet(swarm)})["id"]
            link = torz.link(torz.files(id)[0])
            first = _play(torz.address, link, 0, content)
            pick = random.Random(4)
            places = [pick.randrange(20, _SIZE - (20 << 20)) for _ in range(_SEEKS)]
            return [_play(torz.address, link, place, content) for place in places], first


def _play(address: tuple[str, int], link: str, place: int, content: bytes) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection(*address)
    connection.request("GET", link, headers={"Range": f"bytes={place}-"})
    answer = connection.getresponse()
    assert answer.read(1) == content[place : place + 1]
    seconds, at = time.perf_counter() - began, place + 1
    while time.perf_counter() - began < _PLAYED and (data := answer.read1(65536)):
        assert data == content[at : at + len(data)]
        at += len(data)
    answer.close()
    connection.close()
    return seconds
