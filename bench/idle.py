"""What it costs to be there: memory, starts, and ten thousand finished torrents."""

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from rig import Figure, Server, folder, say, server, wait
from small import hold

_MANY = 10_000
_STARTS = 5
_SETTLED = 3.0
"""Seconds after which a start has had its effects."""
_WATCHED = 20.0


def run() -> Iterator[Figure]:
    with folder() as data:
        with server(data / "first") as torz:
            first = torz.started
            time.sleep(_SETTLED)
            memory = sum(_memory(pid) for pid in torz.pids()) / 1e6
        start = statistics.median(_start(data / "first") for _ in range(_STARTS))
    yield Figure("memory of an idle server, both processes (PSS)", f"{memory:.0f} MB", "under 120 MB", memory < 120)
    said = f"{start:.2f} s ({first:.2f} s on the very first start)"
    yield Figure("start to first answer", said, "under 1.5 s", max(start, first) < 1.5)
    with folder() as data:
        asyncio.run(hold(data, _MANY))
        with server(data) as torz:
            known = torz.started + _seconds_until_known(torz)
            said = f"{torz.started:.2f} s, {known:.2f} s until the engine knows all"
            yield Figure("start with 10,000 finished torrents", said, "under 3 s", known < 3)
            time.sleep(_SETTLED)
            busy = 100 * _busy(torz)
            much = sum(_memory(pid) for pid in torz.pids()) / 1e6
    yield Figure("processor when idle with 10,000, over 20 s", f"{busy:.2f} %", "under 2 %", busy < 2)
    yield Figure("memory with 10,000", f"{much:.0f} MB")


def _start(data: Path) -> float:
    with server(data) as torz:
        return torz.started


def _seconds_until_known(torz: Server) -> float:
    began = time.perf_counter()
    wait(lambda: torz.ask("GET", "/v0/health/__debug__")["engine"]["torrents"] >= _MANY, "the engine's start")
    return time.perf_counter() - began


def _memory(pid: int) -> int:
    """Bytes; of pages that several processes share, this one's share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


def _busy(torz: Server) -> float:
    """The share of one processor over a while."""

    def ticks() -> int:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in torz.pids()]
        return sum(int(one[11]) + int(one[12]) for one in fields)

    before = ticks()
    time.sleep(_WATCHED)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / _WATCHED


if __name__ == "__main__":
    say(run)
