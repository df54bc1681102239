"""Torrents: what a .torrent file says, once everything hostile in it has been refused.

Source: BEP 3, BEP 47, BEP 52; limits: what libtorrent 2.1 does with hostile ones.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha1, sha256
from itertools import chain
from math import comb
from typing import NamedTuple, Self, TypeVar

import msgspec

from torz.domain import bencode
from torz.domain.bencode import Members, Value
from torz.domain.errors import InvalidBencode, InvalidTorrent
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet, allowed_trackers, allowed_web_seeds, printable

MAX_BYTES = 10 * 1024 * 1024
MAX_FILES = 50_000
"""The engine takes 1.5 µs and more for each while it holds the interpreter."""
MAX_TOKENS = 1_500_000
"""Thirty for each file, three times what hybrids need; a bomb of nothing else costs 100 MB."""
MAX_PIECES = 500_000
MIN_PIECE_LENGTH = 16 * 1024
MAX_PIECE_LENGTH = 64 * 1024 * 1024
"""A read costs a whole piece."""
MAX_SIZE = 64 * 1024**4
MAX_DEPTH = 100
MAX_PATH = 3800
"""Bytes, with the name; the kernel takes 4095, of which the store's folder needs some."""
MAX_PATHS = 16 * 1024 * 1024
"""Characters of all paths: in a v2 tree a file of 70 bytes inherits a folder of thousands."""
MAX_RENAMES = 500
"""How often the engine tries another name for files of one path before it refuses the torrent."""

_SEPARATORS = dict.fromkeys(map(ord, "/\\"), "")
_T = TypeVar("_T", int, bytes, list[Value], dict[bytes, Value])


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One file of a torrent. Its path may be hostile to a terminal or a shell, and may occur twice: go by the index."""

    index: int
    """Its place in the file list, padding counted; in the order of the file tree for a torrent of v2 alone."""
    path: str
    """For display; starts with a slash, and the torrent's own folder is left out."""
    size: int
    """Bytes."""
    offset: int
    """Where it starts among the torrent's bytes; at a piece's start for a torrent of v2 alone."""
    hidden: bool
    """Padding, or a symlink."""


class Torrent(msgspec.Struct, frozen=True, kw_only=True):
    """A .torrent file that the engine may be given."""

    hash: InfoHash
    """The v1 hash, or the v2 one of a torrent that has no other."""
    v2: InfoHash | None = None
    """The other hash of a hybrid, which has both."""
    name: str
    private: bool
    piece_length: int
    files: tuple[Entry, ...]
    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    size: int
    """Bytes of all visible files."""
    raw: bytes
    """The file as it came: nothing is ever encoded again to be hashed."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a .torrent file; raises InvalidTorrent, and nothing else for any bytes, with what is wrong as its hint.

        What the engine would repair is let through: odd names, trailing bytes, unsorted keys.
        """
        outer, info, raw_info = _open(data)
        piece_length = _piece_length(info)
        has_v2 = _has_v2(info)
        has_v1 = b"pieces" in info or not has_v2
        hashes = [InfoHash(sha1(raw_info, usedforsecurity=False).digest())] if has_v1 else []
        hashes += [InfoHash(sha256(raw_info).digest())] if has_v2 else []
        name = _name(info, hashes[0])
        room = MAX_PATH - len(name.encode())
        files = _v1_files(info, name, piece_length, room) if has_v1 else ()
        if has_v2:
            tree = _v2_files(info, outer, piece_length, room)
            if has_v1 and _content(files) != _content(tree):
                raise _refuse("Its v1 and v2 parts name different files.")
            files = files or tree
        return cls(
            hash=hashes[0],
            v2=hashes[1] if hashes[1:] else None,
            name=name,
            private=bool(_optional(info, b"private", int, 0)),
            piece_length=piece_length,
            files=files,
            trackers=allowed_trackers(_trackers(outer)),
            web_seeds=allowed_web_seeds(_texts(outer, b"url-list")),
            size=_size(files),
            raw=data,
        )

    @classmethod
    def from_info(cls, info: bytes, trackers: Iterable[str] = ()) -> Self:
        """Read an info dictionary, as peers send it; raises InvalidTorrent."""
        torrent = cls.parse(_build({b"info": info, **_announce(trackers)}))
        digest = sha256(info) if torrent.hash.is_v2 else sha1(info, usedforsecurity=False)
        if torrent.hash.raw != digest.digest():
            raise _refuse("More bytes follow its info dictionary.")
        return torrent

    def with_trackers(self, trackers: Iterable[str]) -> Self:
        """The same torrent with these trackers and no others; info and everything else keep their bytes.

        Raises InvalidTorrent when that makes it larger than 10 MB.
        """
        kept = {key: self.raw[start:end] for key, (_, start, end) in bencode.members(self.raw).items()}
        kept.pop(b"announce", None)
        kept.pop(b"announce-list", None)
        return self.parse(_build({**kept, **_announce(trackers)}))

    @property
    def visible(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.files if not entry.hidden)

    @property
    def magnet(self) -> Magnet:
        return Magnet(self.hash, self.v2, self.name, self.trackers, self.web_seeds)

    def __repr__(self) -> str:  # neither megabytes nor passkeys belong into a log
        return f"Torrent({str(self.hash)!r}, {self.name!r})"


class _File(NamedTuple):
    elements: tuple[bytes, ...]
    size: int
    attributes: bytes


def _open(data: bytes) -> tuple[Members, dict[bytes, Value], memoryview]:
    """The outermost members, the info dictionary, and its bytes."""
    if len(data) > MAX_BYTES:
        raise _refuse(f"It is larger than {MAX_BYTES // 1024**2} MB.")
    if data.count(b"6:length") > 2 * MAX_FILES:  # before a bomb is taken apart; a hybrid names its files twice
        raise _too_many_files()
    try:
        outer = bencode.members(data, max_tokens=MAX_TOKENS)
    except InvalidBencode as exc:
        raise InvalidTorrent(hint=exc.hint) from exc
    info, start, end = outer.get(b"info", (None, 0, 0))
    if not isinstance(info, dict):
        raise _refuse("It has no info dictionary.")
    return outer, info, memoryview(data)[start:end]


def _piece_length(info: dict[bytes, Value]) -> int:
    length = _required(info, b"piece length", int)
    if not MIN_PIECE_LENGTH <= length <= MAX_PIECE_LENGTH:
        raise _refuse("Its piece length is not between 16 KiB and 64 MiB.")
    return length


def _has_v2(info: dict[bytes, Value]) -> bool:
    version = _optional(info, b"meta version", int, 1)
    if version not in (1, 2):
        raise _refuse("Its meta version is not known.")
    if (version == 2) is not (b"file tree" in info):
        raise _refuse("A v2 torrent needs both a file tree and meta version 2.")
    return version == 2


def _name(info: dict[bytes, Value], hash: InfoHash) -> str:
    raw = _preferred(info, b"name", bytes)
    name = _clean(raw)
    if name not in ("", ".", ".."):
        return name
    if not raw or b"length" in info:
        raise _refuse("It has no usable name.")
    return str(hash)  # as the engine names the folder


def _v1_files(info: dict[bytes, Value], name: str, piece_length: int, room: int) -> tuple[Entry, ...]:
    files = _v1_list(info) if b"files" in info else (_v1_file(info, (name.encode(),)),)
    entries = _entries(files, 1, room if b"files" in info else MAX_PATH)
    hashes = _required(info, b"pieces", bytes)
    if len(hashes) != 20 * _count_pieces(entries, piece_length):
        raise _refuse("Its piece hashes do not match its size.")
    return entries


def _v1_list(info: dict[bytes, Value]) -> Iterator[_File]:
    for item in _required(info, b"files", list):
        if not isinstance(item, dict):
            raise _refuse("An entry of its file list is not a dictionary.")
        path = _preferred(item, b"path", list)
        elements = tuple(element for element in path if isinstance(element, bytes))
        if not elements or len(elements) != len(path):
            raise _refuse("The path of a file is not a list of names.")
        yield _v1_file(item, elements)


def _v1_file(item: dict[bytes, Value], elements: tuple[bytes, ...]) -> _File:
    return _File(elements, _required(item, b"length", int), _optional(item, b"attr", bytes, b""))


def _v2_files(info: dict[bytes, Value], outer: Members, piece_length: int, room: int) -> tuple[Entry, ...]:
    if piece_length & (piece_length - 1):
        raise _refuse("The piece length of a v2 torrent is not a power of two.")
    layers = outer.get(b"piece layers", ({}, 0, 0))[0]
    if not isinstance(layers, dict):
        raise _refuse("Its piece layers are not a dictionary.")
    entries = _entries(_v2_list(_required(info, b"file tree", dict), layers, piece_length, room), piece_length, room)
    _count_pieces(entries, piece_length)
    return entries


def _v2_list(tree: dict[bytes, Value], layers: dict[bytes, Value], piece_length: int, room: int) -> Iterator[_File]:
    todo: list[tuple[tuple[bytes, ...], int, Value]] = [((), 0, tree)]
    while todo:
        elements, length, node = todo.pop()
        if not isinstance(node, dict):
            raise _refuse("A node of its file tree is not a dictionary.")
        if b"" in node:
            if len(node) != 1 or not elements:
                raise _refuse("A node of its file tree is both a file and a folder.")
            yield _v2_file(elements, node[b""], layers, piece_length)
            continue
        if length > room:  # before a thousand files repeat it
            raise _path_too_long()
        names = list(node)
        if names != sorted(names):  # the order is what gives the files their places
            raise _refuse("Its file tree is not sorted.")
        todo += (((*elements, name), length + 1 + len(name), node[name]) for name in reversed(names))


def _v2_file(elements: tuple[bytes, ...], leaf: Value, layers: dict[bytes, Value], piece_length: int) -> _File:
    if not isinstance(leaf, dict):
        raise _refuse("A file of its file tree is not a dictionary.")
    file = _v1_file(leaf, elements)
    if b"p" in file.attributes:
        raise _refuse("Its file tree holds padding.")
    if file.size > 0:
        root = _required(leaf, b"pieces root", bytes)
        if len(root) != 32:
            raise _refuse("The pieces root of a file is not 32 bytes long.")
        # Metadata from peers comes without layers; what hashes they hold, the engine checks.
        layer = layers.get(root)
        if layer is not None and not (isinstance(layer, bytes) and len(layer) == 32 * -(-file.size // piece_length)):
            raise _refuse("The piece layer of a file does not match its size.")
    return file


def _entries(files: Iterable[_File], align: int, room: int) -> tuple[Entry, ...]:
    """Give each file its place, starting at multiples of `align`; `room` is for the bytes of a path."""
    entries: list[Entry] = []
    offset = characters = 0
    for index, (elements, length, attributes) in enumerate(files):
        if not 0 <= length <= MAX_SIZE or offset > MAX_SIZE:
            raise _refuse("The size of a file is negative, or the torrent is larger than 64 TiB.")
        if index == MAX_FILES:
            raise _too_many_files()
        path = "/" + "/".join(map(_element, elements))
        characters += len(path)
        if len(path.encode()) > room or characters > MAX_PATHS or len(elements) > MAX_DEPTH:
            raise _path_too_long()
        offset = -(-offset // align) * align
        size = 0 if b"l" in attributes else length  # whatever a symlink says, the engine gives it no bytes
        entries.append(Entry(index, path, size, offset, _is_hidden(elements, attributes)))
        offset += size
    _check_duplicates(entries)
    return tuple(entries)


def _is_hidden(elements: tuple[bytes, ...], attributes: bytes) -> bool:
    return (
        b"p" in attributes
        or b"l" in attributes
        or b".pad" in elements
        or elements[-1].startswith(b"_____padding_file")  # as old programs say it, without an attribute
    )


def _check_duplicates(entries: list[Entry]) -> None:
    repeats = Counter(entry.path.lower() for entry in entries if not entry.hidden)
    if sum(comb(count - 1, 2) for count in repeats.values()) > MAX_RENAMES:
        raise _refuse("Too many of its files have the same path.")


def _count_pieces(entries: tuple[Entry, ...], piece_length: int) -> int:
    end = max((entry.offset + entry.size for entry in entries), default=0)
    pieces = -(-end // piece_length)
    if pieces > MAX_PIECES:
        raise _refuse(f"It has more than {MAX_PIECES:,} pieces.")
    return pieces


def _content(entries: tuple[Entry, ...]) -> list[tuple[str, int, int]]:
    """What the two parts of a hybrid must agree on; an empty file may stand anywhere."""
    return [(entry.path, entry.size, entry.offset if entry.size else 0) for entry in entries if not entry.hidden]


def _size(entries: tuple[Entry, ...]) -> int:
    size = sum(entry.size for entry in entries if not entry.hidden)
    if not size:
        raise _refuse("It has nothing to download.")
    return size


def _element(raw: bytes) -> str:
    text = _clean(raw)
    return "_" if text in ("", ".", "..") else text


def _clean(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    if text.isascii() and text.isprintable() and "/" not in text and "\\" not in text:
        return text
    return printable(text.translate(_SEPARATORS))


def _trackers(outer: Members) -> Iterator[str]:
    yield from _texts(outer, b"announce")
    yield from _texts(outer, b"announce-list")


def _texts(outer: Members, key: bytes) -> Iterator[str]:
    """The strings of a member: one, or a list of them, or a list of lists; the wild has all three everywhere."""
    value = outer.get(key, (b"", 0, 0))[0]
    tiers = value if isinstance(value, list) else [value]
    for text in chain.from_iterable(tier if isinstance(tier, list) else [tier] for tier in tiers):
        if not isinstance(text, bytes):
            raise _refuse(f"Its '{key.decode()}' is not made of strings.")
        yield text.decode("utf-8", "replace")


def _announce(trackers: Iterable[str]) -> dict[bytes, bytes]:
    kept = [tracker.encode() for tracker in allowed_trackers(trackers)]
    if not kept:
        return {}
    return {b"announce": bencode.encode(kept[0]), b"announce-list": bencode.encode([[tracker] for tracker in kept])}


def _build(parts: dict[bytes, bytes]) -> bytes:
    """A dictionary of values that are bencoded already."""
    return b"d%be" % b"".join(bencode.encode(key) + parts[key] for key in sorted(parts))


def _preferred(of: dict[bytes, Value], key: bytes, kind: type[_T]) -> _T:
    """The member that is in UTF-8 for sure, when there is one."""
    return _required(of, key + b".utf-8" if key + b".utf-8" in of else key, kind)


def _optional(of: dict[bytes, Value], key: bytes, kind: type[_T], default: _T) -> _T:
    return _required(of, key, kind) if key in of else default


def _required(of: dict[bytes, Value], key: bytes, kind: type[_T]) -> _T:
    value = of.get(key)
    if not isinstance(value, kind):
        raise _refuse(f"Its '{key.decode()}' is missing or of a wrong type.")
    return value


def _path_too_long() -> InvalidTorrent:
    return _refuse("The path of a file is too long or too deep.")


def _too_many_files() -> InvalidTorrent:
    return _refuse(f"It has more than {MAX_FILES:,} files.")


def _refuse(why: str) -> InvalidTorrent:
    return InvalidTorrent(hint=why)
