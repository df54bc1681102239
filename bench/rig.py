"""A real server for measurements, seeds beside it, and what reads as fast as the kernel gives."""

import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
AUTH = {"X-StremThru-Authorization": "bench:bench"}


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    measured: str
    target: str
    well: bool


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="torz-bench-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Server:
    """`torz serve`, on some processors or all."""

    def __init__(self, data: Path, cpus: str = "", **settings: str) -> None:
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("TORZ_", "STREMTHRU_"))}
        command = [sys.executable, "-m", "torz", "serve"]
        left = data / "local-credentials"
        left.unlink(missing_ok=True)
        began = time.perf_counter()
        self.process = subprocess.Popen(
            ["taskset", "-c", cpus, *command] if cpus else command,
            env={**inherited, **SETTINGS, "TORZ_DATA_DIR": str(data), **settings},
            stdout=subprocess.DEVNULL,
        )
        while not (left.exists() and left.read_text().count("\n") == 2):
            assert self.process.poll() is None, "the server did not start"
            time.sleep(0.005)
        self.url = left.read_text().splitlines()[0]
        self.address = ("127.0.0.1", int(self.url.rpartition(":")[2]))
        self.ask("GET", "/v0/health")
        self.started = time.perf_counter() - began
        """Seconds to the first answer."""

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {**AUTH, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def until(self, id: str, status: str) -> Any:
        while (torz := self.ask("GET", f"/v0/store/torz/{id}"))["status"] != status:
            time.sleep(0.02)
        return torz

    def files(self, id: str) -> Any:
        while not (torz := self.ask("GET", f"/v0/store/torz/{id}"))["files"]:
            time.sleep(0.01)
        return torz["files"]

    def link(self, file: Any) -> str:
        """The path of a file's direct link."""
        link: str = self.ask("POST", "/v0/store/torz/link/generate", {"link": file["link"]})["link"]
        return link.removeprefix(self.url)

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]


@contextmanager
def server(data: Path, cpus: str = "", **settings: str) -> Iterator[Server]:
    made = Server(data, cpus, **settings)
    try:
        yield made
    finally:
        made.stop()


@dataclass(frozen=True)
class Seed:
    hash: str
    torrent: bytes
    port: int


@contextmanager
def seeding(path: Path, *, piece_length: int = 1 << 20, limit: int = 0, count: int = 1) -> Iterator[list[Seed]]:
    """Seeds of a file, each a process; `limit` is bytes per second of each."""
    command = [sys.executable, "-m", "torz.node.seed", str(path), "--piece-length", str(piece_length)]
    command += ["--upload-limit", str(limit)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        said = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
        yield [Seed(one["hash"], b64decode(one["torrent"]), one["port"]) for one in said]
    finally:
        for process in processes:
            process.communicate(timeout=20)


def magnet(seeds: list[Seed]) -> str:
    return f"magnet:?xt=urn:btih:{seeds[0].hash}" + "".join(f"&x.pe=127.0.0.1:{seed.port}" for seed in seeds)


def fetch_all(address: tuple[str, int], requests: list[bytes], expected: int) -> float:
    """Send each request on a connection of its own, throw away what comes, and give the seconds that it took."""
    selector = selectors.DefaultSelector()
    left: dict[socket.socket, int] = {}
    began = time.perf_counter()
    for request in requests:
        connection = socket.create_connection(address)
        connection.setblocking(False)
        connection.send(request)
        left[connection] = 0
        selector.register(connection, selectors.EVENT_READ)
    while left:
        for key, _ in selector.select(30):
            connection = key.fileobj  # type: ignore[assignment]
            try:
                got = connection.recv_into(_BUFFER, len(_BUFFER))
            except BlockingIOError:
                continue
            left[connection] += got
            if not got or left[connection] >= expected:
                assert left[connection] >= expected, "an answer was cut"
                selector.unregister(connection)
                connection.close()
                del left[connection]
    return time.perf_counter() - began


_BUFFER = bytearray(1 << 20)


def get(path: str, start: int, end: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes={start}-{end - 1}\r\n\r\n".encode()


def wrk(url: str, path: str, *, connections: int = 16, seconds: int = 4, cpus: str = "1") -> float:
    """Requests per second, as wrk counts them."""
    headers = [part for name, value in AUTH.items() for part in ("-H", f"{name}: {value}")]
    command = ["taskset", "-c", cpus, "wrk", "-t1", f"-c{connections}", f"-d{seconds}", *headers, url + path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    return float(said.split("Requests/sec:")[1].split()[0])
