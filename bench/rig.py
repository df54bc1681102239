"""A real server for measurements, seeds and a client beside it, and how a figure is said.

Where there are two processors, the servers that are compared keep to the first and the client to the second.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
SETTINGS = {
    "TORZ_PORT": "0",
    "TORZ_AUTH": "bench:bench",
    "TORZ_ENGINE_ALLOW_PRIVATE": "true",
    "TORZ_ENGINE_LISTEN": "127.0.0.1:0",
    "TORZ_ENGINE_DHT": "false",
    "TORZ_ENGINE_LSD": "false",
    "TORZ_ENGINE_TRANSPORT": "tcp",
    "TORZ_LOG_LEVEL": "error",
}
CREDENTIALS = {"X-StremThru-Authorization": "bench:bench"}
FIRST, SECOND = (["taskset", "-c", "0"], ["taskset", "-c", "1"]) if (os.cpu_count() or 1) > 1 else ([], [])
"""What goes before a command that is to keep to one processor."""
PATIENCE = 120.0
"""Seconds after which what is waited for will not come."""


@dataclass(frozen=True)
class Figure:
    """One line of the table. `peer` is what another program made of the same in the same run."""

    what: str
    measured: str
    target: str = ""
    well: bool | None = None
    """Whether the target is met; None where there is none."""
    peer: str = ""
    ratio: float | None = None
    """Ours to the peer's; more is better."""


def say(figures: Callable[[], Iterator[Figure]]) -> None:
    """Print each figure as a line of JSON as soon as it is there."""
    for figure in figures():
        print(json.dumps(asdict(figure), ensure_ascii=False), flush=True)


def wait(look: Callable[[], T | None], what: str, every: float = 0.02) -> T:
    """Look again and again, until there is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} took over {PATIENCE:g} seconds"
        time.sleep(every)
    return found


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="torz-bench-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def random_file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    return path


class Server:
    """`torz serve`, and the engine that it starts."""

    def __init__(self, data: Path, *, before: Sequence[str] = (), **settings: str) -> None:
        """`before` goes before the command, such as `FIRST`."""
        data.mkdir(exist_ok=True)
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("TORZ_", "STREMTHRU_"))}
        left = data / "local-credentials"
        left.unlink(missing_ok=True)
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "torz", "serve"],
            env={**inherited, **SETTINGS, "TORZ_DATA_DIR": str(data), **settings},
            stdout=subprocess.DEVNULL,
        )
        try:
            self.url = wait(lambda: self._address(left), "the start of the server", 0.005)
            self.port = int(self.url.rpartition(":")[2])
            self.ask("GET", "/v0/health")
        except BaseException:
            self.stop()
            raise
        self.started = time.perf_counter() - began
        """Seconds to the first answer."""

    def _address(self, left: Path) -> str | None:
        assert self.process.poll() is None, "the server did not start"
        said = left.read_text() if left.exists() else ""
        return said.splitlines()[0] if said.count("\n") == 2 else None

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {**CREDENTIALS, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def add(self, magnet: str) -> str:
        """The id of what is fetched from now on."""
        id: str = self.ask("POST", "/v0/store/torz", {"link": magnet})["id"]
        return id

    def files(self, id: str) -> Any:
        """Of a torz, as soon as they are known."""
        return wait(lambda: self.ask("GET", f"/v0/store/torz/{id}")["files"], "the metadata", 0.01)

    def finish(self, id: str) -> Any:
        """The files of a torz that is downloaded."""

        def look() -> Any:
            torz = self.ask("GET", f"/v0/store/torz/{id}")
            return torz["files"] if torz["status"] == "downloaded" else None

        return wait(look, "the download")

    def link(self, file: Any) -> str:
        """The path of a file's direct link."""
        link: str = self.ask("POST", "/v0/store/torz/link/generate", {"link": file["link"]})["link"]
        return link.removeprefix(self.url)

    def pids(self) -> list[int]:
        """The server's process and its engine's."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]


@contextmanager
def server(data: Path, *, before: Sequence[str] = (), **settings: str) -> Iterator[Server]:
    made = Server(data, before=before, **settings)
    try:
        yield made
    finally:
        made.stop()


@dataclass(frozen=True)
class Seed:
    """One torrent of a seed."""

    hash: str
    torrent: bytes
    port: int


def magnet(*seeds: Seed) -> str:
    """Of one torrent, with all who have it."""
    return f"magnet:?xt=urn:btih:{seeds[0].hash}" + "".join(f"&x.pe=127.0.0.1:{seed.port}" for seed in seeds)


@contextmanager
def seeding(*paths: Path, piece_length: int = 1 << 20, limit: int = 0) -> Iterator[list[Seed]]:
    """A seed in a process of its own with a torrent of each file; `limit` is bytes per second, for each torrent."""
    command = [sys.executable, "-m", "torz.node.seed", *map(str, paths), "--piece-length", str(piece_length)]
    command += ["--upload-limit", str(limit)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        said = [json.loads(process.stdout.readline()) for _ in paths]
        try:
            yield [Seed(one["hash"], b64decode(one["torrent"]), one["port"]) for one in said]
        finally:
            process.communicate(timeout=20)


class Client:
    """`load.py` in a process of its own. What it takes and gives is said there."""

    def __init__(self, *, before: Sequence[str] = SECOND) -> None:
        command = [*before, sys.executable, str(Path(__file__).with_name("load.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, port: int, requests: Sequence[str], **how: Any) -> Any:
        self.begin(port, requests, **how)
        return self.end()

    def begin(self, port: int, requests: Sequence[str], **how: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"port": port, "requests": requests, **how}) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        assert self._process.stdout
        said = self._process.stdout.readline()
        assert said, "the client gave up"
        return json.loads(said)

    def stop(self) -> None:
        self._process.communicate(timeout=60)


@contextmanager
def client() -> Iterator[Client]:
    made = Client()
    try:
        yield made
    finally:
        made.stop()


def get(path: str, *, start: int | None = None, stop: int = 0) -> str:
    """A request, for a part of a file where `start` is given, else with credentials."""
    headers = CREDENTIALS if start is None else {"Range": f"bytes={start}-{stop - 1}"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n"
