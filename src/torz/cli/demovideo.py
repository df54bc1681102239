"""A real video without a video library: uncompressed pictures and a tone in an AVI container."""

import math
import struct
from array import array
from pathlib import Path

WIDTH, HEIGHT, RATE = 320, 240, 24
_SAMPLES = 22050
"""Of sound, a second."""


def make_video(path: Path, seconds: int) -> None:
    """A moving pattern with a tone; some 5.5 MB a second."""
    frames = [
        chunk for n in range(seconds * RATE) for chunk in (_chunk(b"00db", _picture(n)), _chunk(b"01wb", _tone(n)))
    ]
    movie = b"movi" + b"".join(frames)
    headers = _list(b"hdrl", _main_header(seconds) + _list(b"strl", _video(seconds)) + _list(b"strl", _audio(seconds)))
    body = b"AVI " + headers + _chunk(b"LIST", movie) + _chunk(b"idx1", _index(frames))
    path.write_bytes(_chunk(b"RIFF", body))


def _picture(n: int) -> bytes:
    """Bottom line first, blue, green, red: bars that wander over a slow gradient."""
    line = bytearray(WIDTH * 3)
    rows = []
    for y in range(HEIGHT):
        if y % 8 == 0:
            for x in range(WIDTH):
                bar = ((x + 3 * n) // 40 + (y + n) // 40) % 2
                line[3 * x : 3 * x + 3] = bytes((60 + 120 * bar, (x * 255 // WIDTH + n) % 256, (y + 2 * n) % 256))
        rows.append(bytes(line))
    return b"".join(rows)


def _tone(n: int) -> bytes:
    count = _SAMPLES // RATE
    pitch = 220 * 2 ** ((n // RATE) % 12 / 12)
    wave = (int(6000 * math.sin(2 * math.pi * pitch * (n * count + i) / _SAMPLES)) for i in range(count))
    return array("h", wave).tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def _list(name: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", name + data)


def _main_header(seconds: int) -> bytes:
    frame = WIDTH * HEIGHT * 3
    values = (1_000_000 // RATE, frame * RATE, 0, 0x10, seconds * RATE, 0, 2, frame, WIDTH, HEIGHT, 0, 0, 0, 0)
    return _chunk(b"avih", struct.pack("<14I", *values))


def _video(seconds: int) -> bytes:
    frame = WIDTH * HEIGHT * 3
    format = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 24, 0, frame, 0, 0, 0, 0)
    return _stream_header(b"vids", b"DIB ", RATE, seconds * RATE, frame, 0) + _chunk(b"strf", format)


def _audio(seconds: int) -> bytes:
    format = struct.pack("<HHIIHH", 1, 1, _SAMPLES, _SAMPLES * 2, 2, 16)
    count = _SAMPLES // RATE * RATE * seconds
    return _stream_header(b"auds", bytes(4), _SAMPLES, count, 4096, 2) + _chunk(b"strf", format)


def _stream_header(kind: bytes, codec: bytes, rate: int, length: int, buffer: int, sample: int) -> bytes:
    values = (0, 1, rate, 0, length, buffer, 0, sample)
    return _chunk(b"strh", struct.pack("<4s4sIHH8I4H", kind, codec, 0, 0, 0, *values, 0, 0, WIDTH, HEIGHT))


def _index(frames: list[bytes]) -> bytes:
    entries, at = [], 4
    for frame in frames:
        entries.append(struct.pack("<4sIII", frame[:4], 0x10, at, struct.unpack("<I", frame[4:8])[0]))
        at += len(frame)
    return b"".join(entries)
