"""What it costs to be there: memory, start, and ten thousand finished torrents."""

import asyncio
import os
import time
from pathlib import Path

from bench.rig import Figure, Server, folder, server
from bench.small import hold

_WATCHED = 20.0
_MANY = 10_000


def run() -> list[Figure]:
    with folder() as data, server(data) as torz:
        time.sleep(3)
        memory = sum(_memory(pid) for pid in torz.pids()) / 1e6
        start = torz.started
    with folder() as data:
        asyncio.run(hold(data, _MANY))
        with server(data) as torz:
            began = time.perf_counter()
            while torz.ask("GET", "/v0/health/__debug__")["engine"]["torrents"] < _MANY:
                time.sleep(0.05)
            many = torz.started + time.perf_counter() - began
            time.sleep(3)
            idle = _busy(torz)
    return [
        Figure("memory of an idle server, both processes", f"{memory:.0f} MB", "under 120 MB", memory < 120),
        Figure("start to first answer", f"{start:.2f} s", "under 1.5 s", start < 1.5),
        Figure("start with 10,000 finished torrents, all known to the engine", f"{many:.2f} s", "under 3 s", many < 3),
        Figure("processor when idle with 10,000", f"{100 * idle:.2f} %", "under 2 %", idle < 0.02),
    ]


def _memory(pid: int) -> int:
    """Bytes, shared pages divided by those who share them."""
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
