"""Byte ranges: what a request asks for, and which pieces hold it."""

import re
from typing import NamedTuple

import msgspec

from torz.domain.errors import RangeNotSatisfiable

MAX_RANGES = 16
"""Players ask for one, PDF readers for a few; more is someone making us work."""
MAX_HEADER = 1024
"""Characters: 16 ranges of the largest numbers need fewer."""

_SPEC = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)


class ByteRange(msgspec.Struct, frozen=True, order=True):
    """Bytes from `start` up to and without `end`."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a range: {self.start}..{self.end}")

    @property
    def size(self) -> int:
        return self.end - self.start


class _Spec(NamedTuple):
    first: int | None
    last: int | None


def parse_range(header: str, size: int) -> tuple[ByteRange, ...] | None:
    """Read a `Range` header for a file of `size` bytes: the ranges as asked for, each cut at the file's end.

    None means to send the whole file: the header is malformed, of another unit, or asks for more than 16 ranges or
    for more bytes than there are. So is the end of an empty file, which has no `Content-Range`.
    Raises RangeNotSatisfiable when every range begins behind the end. Source: RFC 9110, 14.1 and 14.2.
    """
    specs = _specs(header)
    if specs is None:
        return None
    if size == 0 and any(spec.first is None and spec.last for spec in specs):
        return None
    asked = [found for spec in specs if (found := _resolve(spec, size))]
    if not asked:
        raise RangeNotSatisfiable
    if sum(part.size for part in asked) > size:
        return None
    return tuple(asked)


def pieces_of(bytes_of_torrent: ByteRange, piece_length: int) -> range:
    """The pieces that hold a range of the torrent's bytes, and no more; none for an empty range."""
    if not bytes_of_torrent.size:
        return range(0)
    return range(bytes_of_torrent.start // piece_length, -(-bytes_of_torrent.end // piece_length))


def _specs(header: str) -> list[_Spec] | None:
    unit, equals, ranges = header.partition("=")
    if len(header) > MAX_HEADER or not equals or unit.lower() != "bytes":
        return None
    # A list may have empty elements: RFC 9110, 5.6.1.
    texts = [text for part in ranges.split(",") if (text := part.strip(" \t"))]
    specs = [spec for text in texts if (spec := _spec(text))]
    return specs if 0 < len(specs) == len(texts) <= MAX_RANGES else None


def _spec(text: str) -> _Spec | None:
    found = _SPEC.fullmatch(text)
    if found is None or text == "-":
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    return None if first is not None and last is not None and last < first else _Spec(first, last)


def _resolve(spec: _Spec, size: int) -> ByteRange | None:
    """None when there is no byte of it."""
    if spec.first is None:
        start, end = max(0, size - (spec.last or 0)), size
    else:
        start, end = spec.first, size if spec.last is None else min(size, spec.last + 1)
    return ByteRange(start, end) if start < end else None
