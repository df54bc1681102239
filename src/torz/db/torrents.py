"""What is known of torrents: rows by the first 8 bytes of the hash, and the few whose 8 bytes are another's."""

import time
from array import array
from collections.abc import Sequence

import apsw

from torz.db.fragments import pack, unpack
from torz.db.sqlite import rows
from torz.domain.metainfo import Torrent
from torz.domain.torz import File
from torz.ports.repo import KnownTorrent, encode_files

SOURCE = "tz"
"""Files in this table were learnt from the torrent itself, by the embedded store."""


def key(hash: bytes) -> int:
    """The first 8 bytes, as SQLite's signed number."""
    return int.from_bytes(hash[:8], "big", signed=True)


def files_of(torrent: Torrent) -> list[File]:
    """The visible files of a torrent, as they are stored."""
    return [File(index=f.index, path=f.path, size=f.size, source=SOURCE) for f in torrent.visible]


def put(connection: apsw.Connection, hash: bytes, torrent: Torrent | None) -> None:
    """Learn of a torrent: with its metadata, or only that it exists."""
    row = {
        "k": key(hash),
        "tail": hash[8:],
        "hash": hash,
        "name": torrent.name if torrent else "",
        "size": torrent.size if torrent else None,
        "private": int(torrent.private) if torrent else 0,
        "files": pack(encode_files(files_of(torrent))) if torrent else None,
        "now": int(time.time()),
    }
    _either(connection, "put_torrent", "put_collision", row)
    if torrent:
        rows(connection, "put_metainfo", {"hash": hash, "data": torrent.raw})


def set_complete(connection: apsw.Connection, hash: bytes, complete: bool) -> None:
    row = {"k": key(hash), "tail": hash[8:], "hash": hash, "complete": int(complete), "now": int(time.time())}
    _either(connection, "set_complete", "set_collision_complete", row)


def set_files(connection: apsw.Connection, hash: bytes, encoded: bytes) -> None:
    row = {"k": key(hash), "tail": hash[8:], "hash": hash, "files": pack(encoded)}
    _either(connection, "set_files", "set_collision_files", row)


def forget(connection: apsw.Connection, hash: bytes) -> None:
    """Drop all that is known of a torrent."""
    _either(connection, "forget_torrent", "forget_collision", {"k": key(hash), "tail": hash[8:], "hash": hash})
    rows(connection, "forget_metainfo", {"hash": hash})


def get(connection: apsw.Connection, hash: bytes) -> KnownTorrent | None:
    row = {"k": key(hash), "tail": hash[8:], "hash": hash}
    for name, _size, private, complete, files in rows(connection, "torrent_by_key", row):
        return KnownTorrent(hash, name, bool(private), bool(complete), unpack(files) if files else None)
    return None


def known(connection: apsw.Connection, hashes: Sequence[bytes]) -> list[KnownTorrent]:
    """The rows there are of these, in no order."""
    if not hashes:
        return []
    wanted = set(hashes)
    keys = array("q", {key(hash) for hash in wanted})
    by_key = rows(connection, "torrents_known", {"keys": apsw.carray(keys)})
    found = [
        KnownTorrent(hash, name, bool(private), bool(complete), unpack(files) if files else None)
        for k, tail, name, private, complete, files in by_key
        if (hash := k.to_bytes(8, "big", signed=True) + tail) in wanted
    ]
    if rows(connection, "collisions_exist")[0][0]:
        found += [
            KnownTorrent(hash, name, bool(private), bool(complete), unpack(files) if files else None)
            for hash, name, private, complete, files in rows(
                connection, "collisions_known", {"hashes": apsw.carray(tuple(wanted))}
            )
        ]
    return found


def _either(connection: apsw.Connection, name: str, collision: str, row: dict[str, object]) -> None:
    """Run the statement on the row of the key, or, where the key is another torrent's, on its own row."""
    rows(connection, name, row)
    if not connection.changes():
        rows(connection, collision, row)
