"""check of 500 hashes with a million torrents known, on one processor."""

import asyncio
import hashlib
import http.client
import random
import time
from pathlib import Path

import apsw

from bench.rig import AUTH, Figure, folder, server
from torz.db import torrents
from torz.db.fragments import pack
from torz.db.sqlite import Database
from torz.domain.torz import File
from torz.ports.repo import encode_files

KNOWN = 1_000_000
_SECONDS = 5.0


def hash_of(number: int) -> bytes:
    return hashlib.sha1(str(number).encode()).digest()


async def fill(path: Path) -> None:
    """A million complete torrents of five files, by names that look real."""
    database = Database(path)
    await database.open()

    def rows(connection: apsw.Connection) -> None:
        for number in range(KNOWN):
            hash = hash_of(number)
            name = f"Some.Show.S{number % 20:02}E{number % 24:02}.1080p.WEB-DL.DDP5.1.H.264-GRP{number % 999}"
            files = [
                File(index=n, path=f"/{name}.{n}.mkv", size=10**9 + number + n, video_hash=hash[:8].hex(), source="tz")
                for n in range(5)
            ]
            connection.execute(
                "insert into torrent(k, tail, name, size, complete, updated, files) values (?, ?, ?, ?, 1, 0, ?)",
                (torrents.key(hash), hash[8:], name, 5 * 10**9, pack(encode_files(files))),
            )

    await database.write(rows)
    await database.aclose()


def run() -> list[Figure]:
    with folder() as data:
        asyncio.run(fill(data / "torz.db"))
        with server(data, cpus="0", TORZ_CHECK_CACHE="256MB") as torz:
            warm = [_hashes(n) for n in range(10)]
            for query in warm:
                _ask(torz.address, [query], 0)
            hot = _ask(torz.address, warm, _SECONDS)
            cold = _ask(torz.address, [_hashes(1000 + n) for n in range(3000)], _SECONDS)
    return [
        Figure("check of 500, answers in memory, one core", f"{hot:.0f}/s", "over 500/s", hot > 500),
        Figure("check of 500, none in memory, one core", f"{cold:.0f}/s", "over 100/s", cold > 100),
    ]


def _hashes(seed: int) -> str:
    pick = random.Random(seed)
    return ",".join(hash_of(pick.randrange(KNOWN)).hex() for _ in range(500))


def _ask(address: tuple[str, int], queries: list[str], seconds: float) -> float:
    """Checks per second over one connection, each query once a round."""
    connection = http.client.HTTPConnection(*address)
    done, began = 0, time.perf_counter()
    while True:
        connection.request("GET", "/v0/store/torz/check?hash=" + queries[done % len(queries)], headers=AUTH)
        body = connection.getresponse().read()
        assert body.count(b'"cached"') >= 499
        done += 1
        if (
            done >= len(queries) and time.perf_counter() - began >= seconds
        ) or time.perf_counter() - began >= 2 * seconds > 0:
            connection.close()
            return done / (time.perf_counter() - began)
