"""File lists as they are stored: a format byte, then JSON as it is (0) or compressed with zstd (1).

A list of five files is under 1 kB and repeats mostly itself, so what is short stays as it is.
"""

import threading

import zstandard

_PLAIN = b"\x00"
_ZSTD = b"\x01"
_WORTH_IT = 1024
"""Bytes below which unpacking costs more than reading."""


class _Zstd(threading.local):
    """Making one takes longer than a hundred uses of it, and none may be used by two threads at once."""

    def __init__(self) -> None:
        self.pack = zstandard.ZstdCompressor(level=3).compress
        self.unpack = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()


def pack(encoded: bytes) -> bytes:
    """The stored form of an encoded file list."""
    if len(encoded) < _WORTH_IT:
        return _PLAIN + encoded
    return _ZSTD + _zstd.pack(encoded)


def unpack(stored: bytes) -> bytes:
    """Back from `pack`."""
    if stored[:1] == _PLAIN:
        return stored[1:]
    return _zstd.unpack(stored[1:])
