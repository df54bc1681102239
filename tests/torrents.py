"""Torrents for tests, by hand: no engine is needed to make them."""

import hashlib

from torz.domain.bencode import encode
from torz.domain.metainfo import Torrent

PIECE = 16384


def make_torrent(
    name: str = "Some.Movie.2024",
    files: dict[str, bytes] | None = None,
    *,
    private: bool = False,
    trackers: tuple[str, ...] = (),
) -> Torrent:
    """A v1 torrent: of one file called `name` for None, else of `files` below a folder of that name."""
    contents = {name: b"greeting\x00hey!"} if files is None else files
    data = b"".join(contents.values())
    info: dict[bytes, object] = {
        b"name": name.encode(),
        b"piece length": PIECE,
        b"pieces": b"".join(hashlib.sha1(data[i : i + PIECE]).digest() for i in range(0, len(data), PIECE)),
    }
    if files is None:
        info[b"length"] = len(data)
    else:
        info[b"files"] = [
            {b"length": len(c), b"path": [p.encode() for p in path.split("/")]} for path, c in files.items()
        ]
    if private:
        info[b"private"] = 1
    outer: dict[bytes, object] = {b"info": info}
    if trackers:
        outer[b"announce-list"] = [[tracker.encode()] for tracker in trackers]
    return Torrent.parse(encode(outer))


GREETING = make_torrent("greeting.txt")
"""Thirteen bytes with a NUL among them."""
