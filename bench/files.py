"""A finished file over Range against nginx's sendfile, and a small request beside 64 streams."""

import http.client
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig import FIRST, Client, Figure, client, folder, get, magnet, random_file, say, seeding, server, wait

_SIZE = 1 << 30
_MB = 1 << 20
_PAIRS = (
    # what, connections, bytes of each answer, answers, rounds, target
    ("one stream of 1 GB", 1, _SIZE, 1, 9, 1.0),
    ("64 streams of 16 MB", 64, 16 * _MB, 64, 9, 1.0),
    ("64 ranges of 1 MB, a new connection each", 64, _MB, 64, 41, 0.8),
    ("64 connections, ten ranges of 1 MB on each", 64, _MB, 640, 9, 0.8),
)
_PROBES = 200
_NGINX = """
user root; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; sendfile_max_chunk 1m; tcp_nopush on; keepalive_requests 100000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def run() -> Iterator[Figure]:
    with folder() as data:
        big = random_file(data / "big.bin", _SIZE)
        with server(data / "data", before=FIRST) as torz, client() as load:
            with seeding(big) as (seed,):
                link = torz.link(torz.finish(torz.add(magnet(seed)))[0])
            with _nginx(data, data / "data" / "torrents" / seed.hash) as nginx:
                ours, theirs = (torz.port, link), (nginx, "/big.bin")
                for pair in _PAIRS:
                    yield _compare(load, ours, theirs, *pair)
            yield _beside(load, torz.port, link)


def _compare(
    load: Client,
    ours: tuple[int, str],
    theirs: tuple[int, str],
    what: str,
    connections: int,
    size: int,
    count: int,
    rounds: int,
    target: float,
) -> Figure:
    """In turns, so that what else the machine does falls on both. The first round is for warming up."""
    taken: dict[tuple[int, str], list[float]] = {ours: [], theirs: []}
    for number in range(rounds + 1):
        for each in (ours, theirs) if number % 2 else (theirs, ours):
            port, path = each
            starts = [at * size % (_SIZE - size + 1) for at in range(connections)]
            asked = [get(path, start=start, stop=start + size) for start in starts]
            taken[each].append(load.ask(port, asked, connections=connections, count=count)["seconds"])
    mine, peer = taken[ours][1:], taken[theirs][1:]
    ratio = statistics.median(one / other for one, other in zip(peer, mine, strict=True))
    rate, peers = (f"{count * size / statistics.median(one) / 1e9:.2f} GB/s" for one in (mine, peer))
    what, aim = f"{what}, ÷ nginx sendfile", f"at least {target} of it"
    return Figure(what, rate, aim, ratio >= target, peers, round(ratio, 2))


def _beside(load: Client, port: int, link: str) -> Figure:
    """What a small request takes while 64 streams run as fast as they can."""
    streams = [get(link, start=n << 24, stop=(n + 1) << 24) for n in range(64)]
    load.begin(port, streams, connections=64, seconds=5)
    time.sleep(0.5)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took = []
    for _ in range(_PROBES):
        began = time.perf_counter()
        connection.request("GET", "/v0/health")
        connection.getresponse().read()
        took.append(1000 * (time.perf_counter() - began))
        time.sleep(0.005)
    connection.close()
    done = load.end()
    rate = done["done"] * (1 << 24) / done["seconds"] / 1e9
    median, worst = statistics.median(took), statistics.quantiles(took, n=100)[98]
    said = f"median {median:.1f} ms, 99 % within {worst:.1f} ms, beside {rate:.1f} GB/s"
    return Figure("a small request beside 64 unthrottled streams", said, "median within 20 ms", median <= 20)


@contextmanager
def _nginx(data: Path, root: Path) -> Iterator[int]:
    """One worker, on the same processor as ours and with the same file. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = _NGINX.format(folder=data, port=port, root=root)
    config = data / "nginx.conf"
    config.write_text(text if os.geteuid() == 0 else text.replace("user root; ", ""))
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert program, "nginx is not installed"
    process = subprocess.Popen([*FIRST, program, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait(lambda: _answers(port), "the start of nginx")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    say(run)
