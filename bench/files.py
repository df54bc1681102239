"""A finished file over Range, against nginx's sendfile; and a small request beside 64 streams."""

import http.client
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rig import Figure, Server, fetch_all, folder, get, magnet, seeding, server

_SIZE = 1 << 30
_ROUNDS = 5

_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; sendfile_max_chunk 1m; tcp_nopush on; keepalive_timeout 65;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def run() -> list[Figure]:
    if not shutil.which("nginx"):
        return [Figure("a finished file ÷ nginx", "nginx is not installed", "at least level", False)]
    with folder() as data:
        with (data / "big.bin").open("wb") as file:
            for _ in range(_SIZE >> 20):
                file.write(os.urandom(1 << 20))
        with server(data / "data") as torz:
            with seeding(data / "big.bin") as seeds:
                id = torz.ask("POST", "/v0/store/torz", {"link": magnet(seeds)})["id"]
                link = torz.link(torz.until(id, "downloaded")["files"][0])
            path = data / "data" / "torrents" / seeds[0].hash
            with _nginx(data, path) as nginx:
                return [*_compare(torz.address, link, nginx), _beside(torz, link)]


def _compare(ours: tuple[str, int], link: str, nginx: tuple[str, int]) -> list[Figure]:
    shapes = (
        ("one stream of 1 GB", 1, _SIZE, 1.0),
        ("64 streams of 16 MB", 64, 16 << 20, 1.0),
        ("64 ranges of 1 MB", 64, 1 << 20, 0.8),
    )
    figures = []
    for name, count, size, target in shapes:
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(_ROUNDS + 1):
            for place, (address, path) in enumerate(((ours, link), (nginx, "/big.bin"))):
                starts = [n * size % (_SIZE - size + 1) for n in range(count)]
                times[place].append(fetch_all(address, [get(path, at, at + size) for at in starts], size))
        mine, theirs = (statistics.median(one[1:]) for one in times)
        ratio, rate = theirs / mine, count * size / mine / 1e9
        said = f"{ratio:.2f} ({rate:.2f} GB/s)"
        figures.append(Figure(f"{name} ÷ nginx sendfile", said, f"at least {target}", ratio >= target))
    return figures


def _beside(torz: Server, link: str) -> Figure:
    """Milliseconds that a small request takes while 64 streams run as fast as they can."""
    ended = threading.Event()

    def stream() -> None:
        while not ended.is_set():
            fetch_all(torz.address, [get(link, n << 24, (n + 1) << 24) for n in range(64)], 16 << 20)

    thread = threading.Thread(target=stream)
    thread.start()
    time.sleep(0.3)
    connection = http.client.HTTPConnection(*torz.address)
    took = []
    for _ in range(150):
        began = time.perf_counter()
        connection.request("GET", "/v0/health")
        connection.getresponse().read()
        took.append(time.perf_counter() - began)
        time.sleep(0.01)
    ended.set()
    thread.join()
    median = 1000 * statistics.median(took)
    return Figure("a small request beside 64 streams", f"{median:.1f} ms", "median within 20 ms", median <= 20)


@contextmanager
def _nginx(data: Path, root: Path) -> Iterator[tuple[str, int]]:
    port = 20000 + os.getpid() % 20000
    data.chmod(0o755)
    (data / "data").chmod(0o755)
    config = data / "nginx.conf"
    config.write_text(
        f"user root;\n{_NGINX.format(folder=data, port=port, root=root)}"
        if os.geteuid() == 0
        else _NGINX.format(folder=data, port=port, root=root)
    )
    process = subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                fetch_all(("127.0.0.1", port), [get("/big.bin", 0, 1)], 1)
                break
            except OSError:
                time.sleep(0.02)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(10)
