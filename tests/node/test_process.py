"""The node's process: started, stopped, killed, and left alone."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node.rig import QUIET, Rig
from swarm import Seed, make_torrent, noise, same
from torz.bus.socket import SocketNodeLink
from torz.db.sqlite import Database
from torz.node import __main__ as program
from torz.node.files import DataFolder, FolderTaken
from torz.ports.clock import SystemClock

pytestmark = pytest.mark.anyio
MIB = 1 << 20


async def start(folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "torz.node", "--data-dir", str(folder), "--socket", str(folder / "n.sock")),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **QUIET},
    )


@asynccontextmanager
async def outside(folder: Path) -> AsyncIterator[Rig]:
    """What a server sees of a node that runs elsewhere, or not at all."""
    folder.mkdir(exist_ok=True)
    database = Database(folder / "torz.db")
    await database.open()
    link = SocketNodeLink(folder / "n.sock", SystemClock())
    await link.start()
    try:
        yield Rig(folder, database, None, link)  # type: ignore[arg-type]
    finally:
        await link.aclose()
        await database.aclose()


async def end(process: asyncio.subprocess.Process, patience: float = 10) -> int:
    """Read what it says to its end, so that no pipe is left open. The exit code."""
    async with asyncio.timeout(patience):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


async def test_a_kill_in_the_middle_loses_nothing_that_was_verified(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(16 * MIB), piece_length=MIB // 4)
    async with outside(tmp_path / "node") as rig:
        first = await start(tmp_path / "node")
        with Seed(torrent, tmp_path / "seed", upload_limit=6 * MIB) as seed:
            await rig.until(lambda: rig.link.alive)
            id = await rig.add(torrent, seed)
            await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and p.done >= 6 * MIB)
            done = rig.link.progress(torrent.hash.raw)
            assert done
            first.send_signal(signal.SIGKILL)
            assert await end(first) == -signal.SIGKILL
            await rig.until(lambda: not rig.link.alive)
        second = await start(tmp_path / "node")
        # What the engine had not written yet went with it.
        await rig.until(lambda: (p := rig.link.progress(torrent.hash.raw)) and p.done >= done.done - 2 * MIB)
        with Seed(torrent, tmp_path / "seed") as seed:
            await rig.add(torrent, seed)
            await rig.complete(id)
            assert same(tmp_path / "seed", rig.data(torrent))
            second.terminate()
            assert await end(second) == 0


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "the end of its input"])
async def test_it_stops_in_order(tmp_path: Path, how: str) -> None:
    async with outside(tmp_path / "node") as rig:
        process = await start(tmp_path / "node")
        await rig.until(lambda: rig.link.alive)
        begun = time.monotonic()
        if how.startswith("SIG"):
            process.send_signal(getattr(signal, how))
        else:
            assert process.stdin
            process.stdin.close()
        assert await end(process) == 0
        assert time.monotonic() - begun < 3
    assert (tmp_path / "node" / "node.clean").exists()
    assert not (tmp_path / "node" / "n.sock").exists()


async def test_it_starts_quickly_and_takes_little_memory(tmp_path: Path) -> None:
    async with outside(tmp_path / "node") as rig:
        begun = time.monotonic()
        process = await start(tmp_path / "node")
        await rig.until(lambda: rig.link.alive)
        print("seconds to start:", round(time.monotonic() - begun, 2))
        assert time.monotonic() - begun < 2
        resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        print("MiB resident:", resident >> 20)
        assert resident < 100 * MIB
        process.terminate()
        assert await end(process) == 0


async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)",
        *(sys.executable, "-m", "torz.node", "--data-dir", str(tmp_path / "node")),
        *("--socket", str(tmp_path / "node" / "n.sock")),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **QUIET},
    )
    async with outside(tmp_path / "node") as rig:
        await rig.until(lambda: rig.link.alive)
        parent.kill()
        await rig.until(lambda: not rig.link.alive)
        await rig.until(lambda: (tmp_path / "node" / "node.clean").exists())
    await parent.communicate()


def test_a_folder_has_one_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_LOCK_PATIENCE", 0.15)
    with DataFolder(tmp_path / "new").lock():
        begun = time.monotonic()
        with pytest.raises(FolderTaken, match="Another engine uses the data folder"):
            program._lock(DataFolder(tmp_path / "new"))
        assert time.monotonic() - begun >= 0.15
    program._lock(DataFolder(tmp_path / "new")).close()


async def test_a_node_waits_for_its_dying_predecessor(tmp_path: Path) -> None:
    async with outside(tmp_path / "node") as rig:
        lock = DataFolder(tmp_path / "node").lock()
        process = await start(tmp_path / "node")
        await asyncio.sleep(0.6)
        assert process.returncode is None
        assert not rig.link.alive
        lock.close()
        await rig.until(lambda: rig.link.alive)
        process.terminate()
        assert await end(process) == 0


async def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    heavy = ("aiohttp", "starlette", "uvicorn", "rich")
    code = f"import sys, torz.node.__main__; print([m for m in {heavy} if m in sys.modules])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert said.strip() == b"[]"
