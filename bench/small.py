"""Small requests: health through everything, and a page of a hundred."""

import asyncio
import hashlib
import os
from pathlib import Path

from bench.rig import Figure, folder, server, wrk
from torz.db.accounts import SqliteTorzRepo
from torz.db.nodes import SqliteNodeRepo
from torz.db.sqlite import Database
from torz.domain.bencode import encode
from torz.domain.metainfo import Torrent
from torz.ports.repo import Layout, Place


async def hold(data: Path, count: int) -> None:
    """Finished torrents of one small file each, rows and files, as if they had been downloaded."""
    database = Database(data / "torz.db")
    await database.open()
    held, node = SqliteTorzRepo(database), SqliteNodeRepo(database)
    for number in range(count):
        content, name = os.urandom(16384), f"Some.Movie.{number}.mkv"
        info = {
            b"name": name.encode(),
            b"piece length": 16384,
            b"pieces": hashlib.sha1(content).digest(),
            b"length": 16384,
        }
        torrent = Torrent.parse(encode({b"info": info}))
        hash = torrent.hash.raw
        await held.add("bench", torrent, number)
        await node.lay_out(hash, Layout(16384, [Place(0, name, 0, 16384)]))
        await node.complete(hash, number)
        await node.synced(hash)
        folder = data / "torrents" / hash.hex()
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
    await database.aclose()


def run() -> list[Figure]:
    with folder() as data:
        asyncio.run(hold(data, 300))
        with server(data, cpus="0") as torz:
            health = wrk(torz.url, "/v0/health")
            page = wrk(torz.url, "/v0/store/torz?limit=100", connections=8)
    return [
        Figure("/v0/health through all middleware", f"{health:,.0f}/s", "over 4,000/s", health > 4000),
        Figure("list of 100", f"{page:.0f}/s", "over 800/s", page > 800),
    ]
