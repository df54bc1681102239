"""`python -m bench [NAME...]`: measure, say so, and, when all was measured, write docs/reference/benchmarks.md."""

import importlib
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.rig import Figure

ALL = ("small", "check", "files", "stream", "download", "idle")
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "benchmarks.md"
HEAD = """# Benchmarks

What `make bench` measured last, on {date}, on a virtual machine with 2 cores. Rates differ elsewhere; ratios roughly
hold, since both sides ran in turns on the same machine. Everything is on loopback, and the load shares the cores.

| what | measured | target | |
| --- | --- | --- | --- |
"""


def main() -> int:
    names = sys.argv[1:] or ALL
    figures: list[Figure] = []
    for name in names:
        for figure in importlib.import_module(f"bench.{name}").run():
            print(json.dumps(asdict(figure), ensure_ascii=False), flush=True)
            figures.append(figure)
    if tuple(names) == ALL:
        rows = [f"| {f.what} | {f.measured} | {f.target} | {'✓' if f.well else '✗'} |\n" for f in figures]
        PAGE.write_text(HEAD.format(date=datetime.now(UTC).date()) + "".join(rows))
    return 0


sys.exit(main())
