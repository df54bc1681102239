"""Who holds which torrent, on SQLite. The port says what each call means."""

import secrets
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from torz.db import torrents
from torz.db.fragments import unpack
from torz.db.nodes import next_revision
from torz.db.sqlite import Database, rows
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import TorzStatus
from torz.ports.repo import HeldTorz, KnownTorrent, Layout

Known = list[KnownTorrent]
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TRACKERS = 100
_WEB_SEEDS = 20
_layouts = msgspec.msgpack.Decoder(Layout)


class SqliteTorzRepo:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, account: str, source: Magnet | Torrent, at: int) -> str:
        torrent = source if isinstance(source, Torrent) else None
        magnet = source.magnet if isinstance(source, Torrent) else source
        hash = source.hash.short.raw

        def change(connection: apsw.Connection) -> str:
            torrents.put(connection, hash, torrent)
            held = {
                "id": _new_id(),
                "account": account,
                "hash": hash,
                "k": torrents.key(hash),
                "name": magnet.name,
                "proven": int(torrent is not None),
                "now": at,
            }
            id: str = rows(connection, "hold", held)[0][0]
            _want(connection, hash, magnet, at)
            return id

        return await self._database.write(change)

    def find(self, id: str) -> HeldTorz | None:
        found = self._database.peek(lambda connection: rows(connection, "held_state", {"id": id}))
        return _held_torz(found[0]) if found else None

    async def files(self, hash: bytes) -> bytes | None:
        def ask(connection: apsw.Connection) -> bytes | None:
            known = torrents.get(connection, hash)
            return known.files if known else None

        return await self._database.read(ask)

    async def get(self, account: str, id: str) -> HeldTorz | None:
        def ask(connection: apsw.Connection) -> HeldTorz | None:
            for row in rows(connection, "held", {"id": id, "account": account}):
                return _held_torz(row)
            return None

        return await self._database.read(ask)

    async def list(self, account: str, limit: int, offset: int) -> tuple[list[HeldTorz], int]:
        def ask(connection: apsw.Connection) -> tuple[list[HeldTorz], int]:
            row = {"account": account, "limit": limit, "offset": offset}
            held = [_held_torz(found) for found in rows(connection, "held_page", row)]
            count: int = rows(connection, "held_count", {"account": account})[0][0]
            return held, count

        return await self._database.read(ask)

    async def remove(self, account: str, id: str) -> bytes | None:
        def change(connection: apsw.Connection) -> bytes | None:
            found = rows(connection, "let_go", {"id": id, "account": account})
            if not found:
                return None
            hash: bytes = found[0][0]
            _release(connection, hash)
            return hash

        return await self._database.write(change)

    async def layout(self, hash: bytes) -> Layout | None:
        def ask(connection: apsw.Connection) -> Layout | None:
            found = rows(connection, "layout", {"hash": hash})
            return _layouts.decode(found[0][0]) if found and found[0][0] else None

        return await self._database.read(ask)

    async def known(self, hashes: Sequence[bytes]) -> Known:
        return await self._database.read(lambda connection: torrents.known(connection, hashes))

    async def holds(self, account: str, hashes: Sequence[bytes]) -> set[bytes]:
        def ask(connection: apsw.Connection) -> set[bytes]:
            row = {"account": account, "hashes": apsw.carray(tuple(hashes))}
            return {found[0] for found in rows(connection, "held_private", row)}

        return await self._database.read(ask) if hashes else set()


def _new_id() -> str:
    """60 random bits in letters that are not mistaken for each other."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))


def _want(connection: apsw.Connection, hash: bytes, magnet: Magnet, now: int) -> None:
    """Want it from the node, with every tracker that any of the adders of a public torrent named."""
    found = rows(connection, "download", {"hash": hash})
    if found:
        wanted, text, complete = found[0]
        merged = _merge(Magnet.parse(text), magnet) if _is_shareable(connection, hash) else Magnet.parse(text)
        if wanted and str(merged) == text:
            return
        magnet = merged
        if complete:  # let go and taken back before the node saw it
            torrents.set_complete(connection, hash, True)
    row = {"hash": hash, "revision": next_revision(connection), "magnet": str(magnet), "now": now}
    rows(connection, "want", row)


def _is_shareable(connection: apsw.Connection, hash: bytes) -> bool:
    known = torrents.get(connection, hash)
    return known is None or not known.private


def _merge(old: Magnet, new: Magnet) -> Magnet:
    return Magnet(
        hash=old.hash if len(old.hash.raw) >= len(new.hash.raw) else new.hash,
        v2=old.v2 or new.v2,
        name=old.name or new.name,
        trackers=tuple(dict.fromkeys(old.trackers + new.trackers))[:_TRACKERS],
        web_seeds=tuple(dict.fromkeys(old.web_seeds + new.web_seeds))[:_WEB_SEEDS],
        peers=tuple(dict.fromkeys(new.peers + old.peers))[:_WEB_SEEDS],
    )


def _release(connection: apsw.Connection, hash: bytes) -> None:
    """Unwant what nobody holds any more. What was learnt of a private torrent goes with those who may know it."""
    private = not _is_shareable(connection, hash)
    if rows(connection, "proven_exists" if private else "held_exists", {"hash": hash})[0][0]:
        return
    torrents.set_complete(connection, hash, False)
    if private:
        torrents.forget(connection, hash)
    rows(connection, "unwant", {"hash": hash, "revision": next_revision(connection)})


def _held_torz(row: tuple[Any, ...]) -> HeldTorz:
    id, hash, account, called, name, size, private, proven, added_at, status, message, complete, files = row
    visible = not private or bool(proven)
    return HeldTorz(
        id=id,
        hash=hash,
        account=account,
        name=(name if visible else "") or called or "",
        size=size if visible else None,
        private=bool(private) and visible,
        visible=visible,
        added_at=added_at,
        status=TorzStatus(status or "unknown") if visible else TorzStatus.QUEUED,
        message=message or "",
        complete=bool(complete) and visible,
        files=unpack(files) if files and visible else None,
    )
