"""Small requests: health through everything, and a page of a hundred."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from rig import FIRST, Figure, client, folder, get, say, server
from torz.db.accounts import SqliteTorzRepo
from torz.db.nodes import SqliteNodeRepo
from torz.db.sqlite import Database
from torz.domain.bencode import encode
from torz.domain.metainfo import Torrent
from torz.ports.repo import Layout, Place

_SIZE = 16 << 10
_SECONDS = 3.0
_ROUNDS = 3


async def hold(data: Path, count: int) -> None:
    """Finished torrents of one small file each, rows and files, as if they had been downloaded."""
    data.mkdir(exist_ok=True)
    database = Database(data / "torz.db")
    await database.open()
    held, node = SqliteTorzRepo(database), SqliteNodeRepo(database)
    for number in range(count):
        content, name = os.urandom(_SIZE), f"Some.Movie.{number}.1080p.WEB-DL.DDP5.1.H.264-GROUP.mkv"
        pieces = hashlib.sha1(content).digest()
        info = {b"name": name.encode(), b"piece length": _SIZE, b"pieces": pieces, b"length": _SIZE}
        torrent = Torrent.parse(encode({b"info": info}))
        hash = torrent.hash.raw
        await held.add("bench", torrent, number)
        await node.lay_out(hash, Layout(_SIZE, [Place(0, name, 0, _SIZE)]))
        await node.complete(hash, number)
        await node.synced(hash)
        place = data / "torrents" / hash.hex()
        place.mkdir(parents=True)
        (place / name).write_bytes(content)
    await database.aclose()


def run() -> Iterator[Figure]:
    with folder() as data:
        asyncio.run(hold(data, 300))
        with server(data, before=FIRST) as torz, client() as load:
            shown = torz.ask("GET", "/v0/store/torz?limit=100")
            assert len(shown["items"]) == 100
            assert all(item["status"] == "downloaded" for item in shown["items"])
            rates = {}
            for path in ("/v0/health", "/v0/store/torz?limit=100"):
                done = [load.ask(torz.port, [get(path)], connections=16, seconds=_SECONDS) for _ in range(_ROUNDS)]
                rates[path] = max(one["done"] / one["seconds"] for one in done)
    health, page = rates.values()
    yield Figure("`/v0/health` through all middleware, one core", f"{health:,.0f}/s", "over 4,000/s", health > 4000)
    yield Figure("list of 100 of 300, one core", f"{page:,.0f}/s", "over 800/s", page > 800)


if __name__ == "__main__":
    say(run)
