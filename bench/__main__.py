"""`python -m bench [NAME...]`: measure, say so, and, when all was measured, write docs/reference/benchmarks.md."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "reference" / "benchmarks.md"
ALL = ("small", "check", "files", "download", "stream", "idle")
LONGEST = 240.0
"""Seconds that one of them may take."""
HEAD = """# Benchmarks

What `make bench` measured last: on {date}, on {cores} cores, in {minutes:.0f} minutes. Rates differ elsewhere; ratios
roughly hold, as both sides ran in turns on the same machine. All is on loopback. Where one core is said the server kept
to one and the client to another.

| what | measured | peer | ratio | target | |
| --- | --- | --- | --- | --- | --- |
"""


def main() -> int:
    names = sys.argv[1:] or ALL
    if unknown := set(names) - set(ALL):
        print(f"bench: there is no {', '.join(sorted(unknown))}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    began, rows, failed = time.monotonic(), [], []
    for name in names:
        try:
            rows += [_row(figure) for figure in _figures(name)]
        except subprocess.SubprocessError as exc:
            print(f"bench: {name}: {exc}", file=sys.stderr)
            failed.append(name)
    if tuple(names) == ALL and not failed:
        minutes = (time.monotonic() - began) / 60
        head = HEAD.format(date=datetime.now(UTC).date(), cores=os.cpu_count(), minutes=minutes)
        PAGE.write_text(head + "".join(rows))
    return 1 if failed else 0


def _figures(name: str) -> Iterator[dict[str, Any]]:
    """What one of them says, in a process of its own, so that none has another's memory or threads beside it."""
    command = ["timeout", "--kill-after=20", str(LONGEST), sys.executable, str(FOLDER / f"{name}.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            yield json.loads(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command[3:])


def _row(figure: dict[str, Any]) -> str:
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.2f}"
    mark = {True: "✓", False: "✗", None: ""}[figure["well"]]
    return f"| {figure['what']} | {figure['measured']} | {figure['peer']} | {ratio} | {figure['target']} | {mark} |\n"


sys.exit(main())
