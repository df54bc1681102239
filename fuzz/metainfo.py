"""python fuzz/metainfo.py [seconds]."""

from contextlib import suppress

from mutation import hammer

from torz.domain.bencode import Value, encode
from torz.domain.errors import InvalidTorrent
from torz.domain.metainfo import Torrent

PIECE = 16384
V1: dict[bytes, Value] = {b"name": b"greeting", b"piece length": PIECE, b"pieces": b"a" * 20}
LEAF: Value = {b"": {b"length": 13, b"pieces root": b"r" * 32}}
V2: dict[bytes, Value] = {b"meta version": 2, b"piece length": PIECE, b"name": b"greeting"}
SEEDS = tuple(
    encode({b"announce": b"udp://t.example:1", b"info": info, b"piece layers": {}, b"url-list": b"http://w.example/"})
    for info in (
        {**V1, b"length": 13},
        {**V1, b"files": [{b"length": 13, b"path": [b"a", b"b"], b"attr": b"x"}, {b"length": 0, b"path": [b".."]}]},
        {**V1, **V2, b"length": 13, b"file tree": {b"greeting": LEAF}},
        {**V2, b"file tree": {b"a": {b"b": LEAF}, b"c": LEAF}},
    )
)


def try_one(given: bytes) -> None:
    with suppress(InvalidTorrent):
        torrent = Torrent.parse(given)
        end = torrent.files[-1].offset
        if not 0 < torrent.size <= end + torrent.files[-1].size or len(str(torrent.magnet)) == 0:
            raise AssertionError(repr(torrent))
        for entry in torrent.files:
            if not entry.path.startswith("/") or {"", ".", ".."} & set(entry.path[1:].split("/")):
                raise AssertionError(entry.path)
        if torrent.with_trackers(("udp://other.example:1",)).hash != torrent.hash:
            raise AssertionError("other trackers made another torrent")


if __name__ == "__main__":
    hammer(SEEDS, try_one)
