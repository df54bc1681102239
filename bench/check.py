"""`check` of 500 hashes with a million torrents known, on one core."""

import asyncio
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import apsw

from rig import FIRST, Figure, client, folder, get, say, server
from torz.db import torrents
from torz.db.fragments import pack
from torz.db.sqlite import Database
from torz.domain.torz import File
from torz.ports.repo import encode_files

KNOWN = 1_000_000
_ASKED = 500
_BATCH = 20_000
_HOT = 10
"""Questions whose answers are in memory."""
_SECONDS = 4.0
_ROUNDS = 3
_CONNECTIONS = 4
_WORDS = [
    "Autumn",
    "Black",
    "Border",
    "Broken",
    "City",
    "Cold",
    "Crown",
    "Dark",
    "Daughter",
    "Day",
    "Desert",
    "Dream",
    "Edge",
    "Empire",
    "Fire",
    "First",
    "Garden",
    "Ghost",
    "Glass",
    "Golden",
    "Harbor",
    "Heart",
    "Hidden",
    "House",
    "Hunter",
    "Island",
    "Journey",
    "King",
    "Last",
    "Light",
    "Long",
    "Lost",
    "Midnight",
    "Mirror",
    "Moon",
    "Mountain",
    "Night",
    "Ocean",
    "Other",
    "Paper",
    "Queen",
    "Quiet",
    "Red",
    "River",
    "Road",
    "Secret",
    "Shadow",
    "Silent",
    "Silver",
    "Sister",
    "Sky",
    "Snow",
    "Star",
    "Stone",
    "Storm",
    "Summer",
    "Under",
    "Valley",
    "Voice",
    "White",
    "Wild",
    "Winter",
]
_GROUPS = ["NTb", "FLUX", "CMRG", "EDITH", "SMURF", "TOMMY", "playWEB", "KOGi", "GOSSIP", "HONE"]


def hash_of(number: int) -> bytes:
    return hashlib.sha1(str(number).encode()).digest()


def release(number: int) -> tuple[str, list[File]]:
    """Five episodes, by names as they are in the wild."""
    pick = random.Random(number)
    title = ".".join(pick.choice(_WORDS) for _ in range(pick.randint(1, 4)))
    season, first = number % 12 + 1, pick.choice((1, 6, 11))
    kind = f"{pick.choice((720, 1080, 2160))}p.{pick.choice(('AMZN', 'NF', 'DSNP', 'HMAX'))}.WEB-DL.DDP5.1.H.264"
    kind += f"-{pick.choice(_GROUPS)}"
    files = [
        File(
            index=index,
            path=f"/{title}.S{season:02}E{first + index:02}.{kind}.mkv",
            size=pick.randrange(1 << 28, 1 << 33),
            video_hash=f"{pick.getrandbits(64):016x}",
            source=torrents.SOURCE,
        )
        for index in range(5)
    ]
    return f"{title}.S{season:02}.{kind}", files


async def fill(path: Path) -> None:
    """Rows as they are after a million downloads, in the order in which they came."""
    database = Database(path)
    await database.open()
    for start in range(0, KNOWN, _BATCH):
        await database.write(lambda connection, start=start: _put(connection, range(start, start + _BATCH)))
    await database.aclose()


def _put(connection: apsw.Connection, numbers: range) -> None:
    for number in numbers:
        hash, (name, files) = hash_of(number), release(number)
        connection.execute(
            "insert into torrent(k, tail, name, size, complete, updated, files) values (?, ?, ?, ?, 1, 0, ?)",
            (torrents.key(hash), hash[8:], name, sum(f.size or 0 for f in files), pack(encode_files(files))),
        )


def run() -> Iterator[Figure]:
    order = random.Random(0).sample(range(KNOWN), KNOWN)
    asked = [_question(order[at : at + _ASKED]) for at in range(0, KNOWN, _ASKED)]
    hot, never = asked[:_HOT], iter(asked[_HOT:])
    with folder() as data:
        asyncio.run(fill(data / "torz.db"))
        with server(data, before=FIRST, TORZ_CHECK_CACHE="256MB") as torz, client() as load:
            found = torz.ask("GET", hot[0].split()[1])["items"]
            assert len(found) == _ASKED
            assert all(item["status"] == "cached" and len(item["files"]) == 5 for item in found)
            load.ask(torz.port, hot, connections=1, count=len(hot))
            done = [load.ask(torz.port, hot, connections=_CONNECTIONS, seconds=_SECONDS) for _ in range(_ROUNDS)]
            warm = max(one["done"] / one["seconds"] for one in done)
            rates = []
            for _ in range(_ROUNDS):
                questions = [next(never) for _ in range(500)]
                once = load.ask(torz.port, questions, connections=_CONNECTIONS, count=len(questions))
                rates.append(once["done"] / once["seconds"])
            cold = max(rates)
    yield Figure("check of 500, answers in memory, one core", f"{warm:,.0f}/s", "over 500/s", warm > 500)
    yield Figure("check of 500, none in memory, one core", f"{cold:,.0f}/s", "over 100/s", cold > 100)


def _question(numbers: list[int]) -> str:
    return get("/v0/store/torz/check?hash=" + ",".join(hash_of(number).hex() for number in numbers))


if __name__ == "__main__":
    say(run)
