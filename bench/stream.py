"""The first byte of a stream and of a seek, through HTTP, from a slow swarm with pieces of 1 MiB."""

import http.client
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from rig import Figure, Server, folder, magnet, random_file, say, seeding, server

_SIZE = 256 << 20
_SEEKS = 8
_STARTS = 8
_PLAYED = 3.2
"""Seconds that each place is played for."""
_KNOWN = 0.1
"""Seconds in which only what was there already can come, as a piece takes 0.2: such a seek does not count."""
_SPEED = 5_000_000
"""Bytes per second, of all seeds together."""


def run() -> Iterator[Figure]:
    one = _seeks(1)
    yield Figure(
        "first byte of a seek, one seed at 5 MB/s",
        _said(one),
        "median under 0.45 s, none over 1 s",
        statistics.median(one) < 0.45 and max(one) <= 1,
    )
    starts, from_add = _starts()
    yield Figure(
        "first byte of a stream, one seed at 5 MB/s",
        _said(starts),
        "median under 0.45 s, none over 1 s",
        statistics.median(starts) < 0.45 and max(starts) <= 1,
    )
    yield Figure("the same from the magnet on", _said(from_add))
    four = _seeks(4)
    what = "first byte of a seek, four seeds at 1.25 MB/s each"
    yield Figure(what, _said(four), "median under 1 s", statistics.median(four) < 1)


def _said(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s of {len(seconds)}"


def _seeks(count: int) -> list[float]:
    """Seconds to the first byte of each seek in a torrent that is being downloaded, with so many seeds."""
    with folder() as data, ExitStack() as swarm:
        film = random_file(data / "film.mkv", _SIZE)
        seeds = [swarm.enter_context(seeding(film, limit=_SPEED // count))[0] for _ in range(count)]
        with server(data / "data") as torz, film.open("rb") as content:
            link = torz.link(torz.files(torz.add(magnet(*seeds)))[0])
            _play(torz.port, link, 0, content.fileno(), _PLAYED)
            took = []
            for place in _places():
                seconds = _play(torz.port, link, place, content.fileno(), _PLAYED)
                if seconds > _KNOWN:
                    took.append(seconds)
                if len(took) == _SEEKS:
                    break
            return took


def _places() -> list[int]:
    """Where nobody has been: random places in equal parts of the file, in random order."""
    pick = random.Random(4)
    parts = pick.sample(range(1, 13), 12)
    return [part * _SIZE // 13 + pick.randrange(_SIZE // 26) for part in parts]


def _starts() -> tuple[list[float], list[float]]:
    """Seconds to the first byte of files nobody has played: from the request, and from the add of the magnet."""
    with folder() as data:
        films = [random_file(data / f"film{number}.mkv", 32 << 20) for number in range(_STARTS)]
        with seeding(*films, limit=_SPEED) as seeds, server(data / "data") as torz:
            took = [_start(torz, film, magnet(seed)) for film, seed in zip(films, seeds, strict=True)]
    return [seconds for seconds, _ in took], [seconds for _, seconds in took]


def _start(torz: Server, film: Path, link: str) -> tuple[float, float]:
    began = time.perf_counter()
    id = torz.add(link)
    path = torz.link(torz.files(id)[0])
    waited = time.perf_counter() - began
    with film.open("rb") as content:
        seconds = _play(torz.port, path, 0, content.fileno(), 0)
    torz.ask("DELETE", f"/v0/store/torz/{id}")
    return seconds, waited + seconds


def _play(port: int, link: str, place: int, content: int, seconds: float) -> float:
    """Play from a place, each byte compared; seconds to the first."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", link, headers={"Range": f"bytes={place}-"})
    answer = connection.getresponse()
    assert answer.status == 206, answer.status
    data, at = answer.read(1), place
    first = time.perf_counter() - began
    while data:
        assert data == os.pread(content, len(data), at), "a wrong byte"
        at += len(data)
        data = answer.read1(1 << 16) if time.perf_counter() - began < seconds else b""
    answer.close()
    connection.close()
    return first


if __name__ == "__main__":
    say(run)
