"""What all tests share."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_SHARED = ("MainThread", "torz-cold-disk")
"""Threads that live as long as their process."""
_PATIENCE = 5.0
"""Seconds that what was told to stop may take."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """When all is done, no process and no thread that a test began is still there."""
    before = {*_children(), *_threads()}
    yield
    deadline = time.monotonic() + _PATIENCE
    while left := {*_children(), *_threads()} - before:
        assert time.monotonic() < deadline, f"still running after the last test: {sorted(left)}"
        time.sleep(0.05)


def _threads() -> set[str]:
    return {t.name for t in threading.enumerate() if not t.daemon and not t.name.startswith(_SHARED)}


def _children() -> set[str]:
    """Our child processes by number and name, where the system tells; those that ended and nobody waited for too."""
    found = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        try:
            numbers = listed.read_text().split()
        except OSError:  # the thread has just ended
            continue
        found |= {f"process {number} {_name(number)}" for number in numbers}
    return found


def _name(number: str) -> str:
    try:
        return Path("/proc", number, "comm").read_text().strip()
    except OSError:
        return "(gone)"
