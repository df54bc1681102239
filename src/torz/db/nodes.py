"""What a node is to have and what has become of it, on SQLite. The port says what each call means."""

import time

import apsw
import msgspec

from torz.db import torrents
from torz.db.sqlite import Database, rows
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import File, TorzStatus
from torz.ports.repo import Desired, Layout, decode_files, encode_files


class SqliteNodeRepo:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def desired(self, after: int, limit: int = 1000) -> list[Desired]:
        def ask(connection: apsw.Connection) -> list[Desired]:
            found = rows(connection, "desired", {"after": after, "limit": limit})
            return [
                Desired(
                    hash=hash,
                    revision=revision,
                    wanted=bool(wanted),
                    magnet=magnet,
                    has_metainfo=bool(has_metainfo),
                    status=TorzStatus(status),
                    complete=bool(complete),
                    synced=bool(synced),
                    used_at=used_at,
                )
                for hash, revision, wanted, magnet, has_metainfo, status, complete, synced, used_at in found
            ]

        return await self._database.read(ask)

    async def metainfo(self, hash: bytes) -> bytes | None:
        def ask(connection: apsw.Connection) -> bytes | None:
            found = rows(connection, "metainfo", {"hash": hash})
            return found[0][0] if found else None

        return await self._database.read(ask)

    async def learn(self, torrent: Torrent, hash: bytes) -> None:
        def change(connection: apsw.Connection) -> None:
            torrents.put(connection, hash, torrent)
            rows(connection, "prove", {"hash": hash})

        await self._database.write(change)

    async def lay_out(self, hash: bytes, layout: Layout) -> None:
        await self._execute("lay_out", {"hash": hash, "layout": msgspec.msgpack.encode(layout)})

    async def set_status(self, hash: bytes, status: TorzStatus, message: str = "") -> None:
        complete = status is TorzStatus.DOWNLOADED

        def change(connection: apsw.Connection) -> None:
            row = {"hash": hash, "status": status.value, "message": message, "complete": int(complete)}
            rows(connection, "set_status", row)
            torrents.set_complete(connection, hash, complete)

        await self._database.write(change)

    async def complete(self, hash: bytes, at: int) -> None:
        await self.set_status(hash, TorzStatus.DOWNLOADED)
        await self._execute("set_used", {"hash": hash, "now": at})

    async def synced(self, hash: bytes) -> None:
        await self._execute("set_synced", {"hash": hash})

    async def set_video_hash(self, hash: bytes, index: int, value: str) -> None:
        def change(connection: apsw.Connection) -> None:
            known = torrents.get(connection, hash)
            if known and known.files:
                files = [_with_video_hash(f, value) if f.index == index else f for f in decode_files(known.files)]
                torrents.set_files(connection, hash, encode_files(files))

        await self._database.write(change)

    async def forget(self, hash: bytes, revision: int) -> bool:
        def change(connection: apsw.Connection) -> bool:
            rows(connection, "forget_download", {"hash": hash, "revision": revision})
            if not connection.changes():
                return False
            torrents.set_complete(connection, hash, False)
            if rows(connection, "held_exists", {"hash": hash})[0][0]:
                _want_anew(connection, hash)
            return True

        return await self._database.write(change)

    async def _execute(self, name: str, row: dict[str, object]) -> None:
        await self._database.write(lambda connection: rows(connection, name, row))


def next_revision(connection: apsw.Connection) -> int:
    """Above every revision there ever was."""
    revision: int = rows(connection, "next_revision")[0][0]
    return revision


def _want_anew(connection: apsw.Connection, hash: bytes) -> None:
    """Somebody who never saw the metadata of a private torrent still holds it: start over from the bare hash."""
    magnet = str(Magnet(hash=InfoHash(hash)))
    row = {"hash": hash, "revision": next_revision(connection), "magnet": magnet, "now": int(time.time())}
    rows(connection, "want", row)


def _with_video_hash(file: File, value: str) -> File:
    return msgspec.structs.replace(file, video_hash=value)
