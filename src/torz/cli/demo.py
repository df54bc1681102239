"""torz demo: the main job, on real input, on this machine alone."""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import aiohttp
import click

from torz.cli.demovideo import make_video
from torz.cli.output import console, echo_json, size
from torz.client import Client, download
from torz.client.download import safe_path
from torz.domain.bencode import encode
from torz.domain.errors import StoreUnavailable
from torz.domain.metainfo import Torrent
from torz.domain.torz import Torz, TorzStatus

_SECONDS = 12
"""Of video; some 66 MB."""
_SPEED = 12 << 20
"""Bytes per second that the seed gives, so that there is something to watch."""
_PLAYED = 2 << 20
_START = 20.0
"""Seconds that a process may take to start."""


_PATIENCE = 120.0
"""Seconds that the download may take; six are usual."""


class Step(NamedTuple):
    what: str
    said: str
    well: bool = True


@click.command()
@click.option("--keep", is_flag=True, help="Keep the folder with everything in it.")
@click.pass_obj
def command(obj: dict[str, Any], keep: bool) -> int:
    """Prove the main job on this machine, without a network.

    It makes a video and some documents, seeds them from a process of their own, adds the magnet to a real server over
    HTTP, plays while the download runs, seeks to the end, and compares every byte.
    """
    steps: list[Step] = []

    def did(step: Step) -> None:
        steps.append(step)
        if not obj["as_json"]:
            console.print(f"{'[green]✓[/]' if step.well else '[red]✗[/]'} {step.what:34} {step.said}")

    folder = Path(tempfile.mkdtemp(prefix="torz-demo-"))
    try:
        for_all = asyncio.run(_demo(folder, did))
    finally:
        if keep:
            console.print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    well = for_all and all(step.well for step in steps)
    if obj["as_json"]:
        echo_json({"ok": well, "steps": [step._asdict() for step in steps]})
    return 0 if well else 1


async def _demo(folder: Path, did: Callable[[Step], None]) -> bool:
    content = folder / "seeded" / "Torz Demo"
    await asyncio.to_thread(_make_content, content)
    sums = {path.relative_to(content): _sha256(path) for path in sorted(content.rglob("*")) if path.is_file()}
    total = sum((content / path).stat().st_size for path in sums)
    did(Step("Made a video and documents", f"{len(sums)} files, {size(total)}"))
    async with _tracker() as tracker:
        with _seed(content, tracker) as torrent, _server(folder) as (url, auth):
            async with Client(url, auth=auth) as torz:
                return await _story(torz, torrent, tracker, folder / "fetched", sums, did)


async def _story(
    torz: Client, torrent: Torrent, tracker: str, target: Path, sums: dict[Path, str], did: Callable[[Step], None]
) -> bool:
    begun = time.monotonic()
    added = await torz.add(f"magnet:?xt=urn:btih:{torrent.hash}&tr={tracker}")
    did(Step("Added the magnet over HTTP", f"{_ms(begun)}, answered {added.status.value}"))
    known = await _until_known(torz, added.id)
    did(Step("Got its metadata from the swarm", f"{_ms(begun)}, {len(known.files)} files"))
    video = max(known.files, key=lambda file: file.size or 0)
    link = await torz.link(video.link)
    head = await _read(torz, link, 0, _PLAYED)
    status = (await torz.get(added.id)).status
    did(Step("Played the first 2 MB", f"first byte after {head[1]:.2f} s, while {status.value}"))
    end = (video.size or 0) - 65536
    tail = await _read(torz, link, end, video.size or 0)
    status = (await torz.get(added.id)).status
    did(Step("Sought to the end", f"first byte after {tail[1]:.2f} s, while {status.value}"))
    try:
        async with asyncio.timeout(_PATIENCE):
            finished = await torz.wait(added.id, every=0.2)
    except TimeoutError as exc:
        raise StoreUnavailable(f"The download was not there after {_PATIENCE:g} seconds. Try: torz doctor") from exc
    took = time.monotonic() - begun
    well = finished.status is TorzStatus.DOWNLOADED
    did(Step("Downloaded", f"{took:.1f} s, {size(int((finished.size or 0) / took))}/s", well))
    begun, wrong = time.monotonic(), []
    for file in finished.files:
        path = await download(torz.session, await torz.link(file.link), safe_path(target, file.path))
        if _sha256(path) != sums.get(Path(file.path.lstrip("/"))):
            wrong.append(file.path)
    took = time.monotonic() - begun
    did(Step("Fetched every file by its link", f"{took:.2f} s, {size(int((finished.size or 0) / took))}/s"))
    local = target / video.path.lstrip("/")
    same = _part(local, 0, _PLAYED) == head[0] and _part(local, end, video.size or 0) == tail[0]
    did(Step("Compared what was played", "the same bytes" if same else "DIFFERENT BYTES", same))
    did(
        Step(
            "Compared SHA-256 of every file",
            "all the same" if not wrong else "DIFFERENT: " + ", ".join(wrong),
            not wrong,
        )
    )
    [check] = await torz.check([torrent.hash])
    did(Step("Asked whether it is cached", check.status.value, check.status is TorzStatus.CACHED))
    await torz.remove(added.id)
    did(Step("Removed it", "its data goes with its last holder"))
    return not wrong and same


def _make_content(folder: Path) -> None:
    (folder / "Documents").mkdir(parents=True)
    make_video(folder / "Demo Video.avi", _SECONDS)
    (folder / "Documents" / "Read me – bitte lesen.txt").write_text("Torz demo\n" * 1000)
    (folder / "Documents" / "numbers.bin").write_bytes(secrets.token_bytes(3 << 20))
    (folder / "Documents" / "empty.txt").touch()


@contextlib.asynccontextmanager
async def _tracker() -> AsyncIterator[str]:
    """A small tracker: everybody who announced is told to everybody."""
    peers: set[tuple[str, int]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled is what a connection is that outlives the demo; nobody waits for it.
        with contextlib.suppress(OSError, EOFError, ValueError, LookupError, asyncio.CancelledError):
            request = (await reader.readuntil(b"\r\n\r\n")).split()[1].partition(b"?")[2]
            asked = dict(parse_qsl(request.decode("latin-1"), encoding="latin-1"))
            peers.add(("127.0.0.1", int(asked["port"])))
            compact = b"".join(bytes((127, 0, 0, 1)) + port.to_bytes(2, "big") for _, port in peers)
            body = encode({b"interval": 60, b"peers": compact})
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/announce"


@contextlib.contextmanager
def _seed(content: Path, tracker: str) -> Iterator[Torrent]:
    command = [
        sys.executable,
        "-m",
        "torz.node.seed",
        str(content),
        "--tracker",
        tracker,
        "--upload-limit",
        str(_SPEED),
    ]
    # In sessions of their own, so that Ctrl-C is ours to answer, and they end in order.
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            if not said:
                raise StoreUnavailable("The demo's seed did not start. Try: torz doctor")
            yield Torrent.parse(b64decode(json.loads(said)["torrent"]))
        finally:
            assert process.stdin
            process.stdin.close()
            _end(process, 10)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[str, str]]:
    """A server of its own, as `torz serve` starts one, that may talk to this machine alone."""
    data = folder / "data"
    settings = {
        "TORZ_DATA_DIR": str(data),
        "TORZ_PORT": "0",
        "TORZ_AUTH": "demo:" + secrets.token_urlsafe(12),
        "TORZ_ENGINE_ALLOW_PRIVATE": "true",
        "TORZ_ENGINE_LISTEN": "127.0.0.1:0",
        "TORZ_ENGINE_DHT": "false",
        "TORZ_ENGINE_LSD": "false",
        "TORZ_ENGINE_TRANSPORT": "tcp",
        "TORZ_LOG_LEVEL": "error",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TORZ_", "STREMTHRU_"))}
    command = [sys.executable, "-m", "torz", "serve"]
    with subprocess.Popen(  # noqa: S603
        command, env={**inherited, **settings}, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield _wait_for_server(process, data / "local-credentials"), settings["TORZ_AUTH"]
        finally:
            process.terminate()
            _end(process, 20)


def _end(process: "subprocess.Popen[bytes]", patience: float) -> None:
    """Wait so many seconds, and no longer: a demo leaves nothing running."""
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_for_server(process: "subprocess.Popen[bytes]", left: Path) -> str:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            return left.read_text().split("\n")[0]
        time.sleep(0.02)
    raise StoreUnavailable("The demo's server did not start. Try: torz doctor")


async def _until_known(torz: Client, id: str) -> Torz:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        found = await torz.get(id)
        if found.files:
            return found
        await asyncio.sleep(0.02)
    raise StoreUnavailable("The metadata did not come. Does a firewall keep this machine from itself?")


async def _read(torz: Client, link: str, start: int, end: int) -> tuple[bytes, float]:
    """A range of a file, and the seconds to its first byte."""
    begun = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=60)
    async with torz.session.get(link, headers={"Range": f"bytes={start}-{end - 1}"}, timeout=timeout) as answer:
        first = await answer.content.readany()
        seconds = time.monotonic() - begun
        return first + await answer.read(), seconds


def _part(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ms(begun: float) -> str:
    return f"{(time.monotonic() - begun) * 1000:.0f} ms"
