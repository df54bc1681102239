"""Bencode: strict enough to be safe, lax where real torrents are. Source: BEP 3.

Lists and dictionaries are closed iteratively, so that nesting costs memory and never the interpreter's stack.
"""

import re
from typing import TypeAlias

from torz.domain.errors import InvalidBencode

Value: TypeAlias = "int | bytes | list[Value] | dict[bytes, Value]"
Members: TypeAlias = "dict[bytes, tuple[Value, int, int]]"

MAX_DEPTH = 100
MAX_TOKENS = 3_000_000
"""About what 10 MB can hold; the same limits as the engine's."""

_TOKEN = re.compile(rb"([0-9]{1,10}):|i(-?[0-9]{1,20})e|([lde])")
_INT64 = range(-(2**63), 2**63)


def decode(
    data: bytes, *, max_depth: int = MAX_DEPTH, max_tokens: int = MAX_TOKENS, allow_trailing: bool = False
) -> Value:
    """Read one value; raises InvalidBencode, and nothing else for any bytes.

    Integers are signed, of 64 bits. Leading zeros and unsorted keys are let through, since torrents in the wild have
    them. Of equal keys the first wins, as in the engine, so that both see the same torrent.
    """
    value, end, _ = _read(data, 0, max_depth, max_tokens)
    if end != len(data) and not allow_trailing:
        raise _refuse(end, "more bytes follow the value")
    return value


def members(data: bytes, *, max_depth: int = MAX_DEPTH, max_tokens: int = MAX_TOKENS) -> Members:
    """Read the dictionary that `data` starts with: each value with its half-open span of bytes.

    What follows the dictionary is left alone. Raises InvalidBencode.
    """
    if data[:1] != b"d":
        raise _refuse(0, "a dictionary is expected")
    found: Members = {}
    at = 1
    while data[at : at + 1] != b"e":
        key, start, max_tokens = _read(data, at, max_depth - 1, max_tokens)
        if not isinstance(key, bytes):
            raise _refuse(at, "a key is not a string")
        value, at, max_tokens = _read(data, start, max_depth - 1, max_tokens)
        found.setdefault(key, (value, start, at))
    return found


def info_span(data: bytes) -> tuple[int, int]:
    """Where the value of the outermost `info` starts and ends: an info hash is made of these bytes as they came.

    Raises InvalidBencode when there is none.
    """
    try:
        return members(data)[b"info"][1:]
    except KeyError as exc:
        raise InvalidBencode(hint="There is no info dictionary.") from exc


def encode(value: Value) -> bytes:
    """Print a value, keys sorted. Raises TypeError for what bencode cannot say, None and floats among it."""
    match value:
        case bool():
            raise TypeError("bencode knows no booleans")
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%b" % (len(value), value)
        case list():
            return b"l%be" % b"".join(map(encode, value))
        case dict():
            return b"d%be" % b"".join(encode(key) + encode(value[key]) for key in sorted(value))
    raise TypeError(f"bencode knows no {type(value).__name__}")


def _read(data: bytes, at: int, max_depth: int, max_tokens: int) -> tuple[Value, int, int]:
    """The value at `at`, where it ends, and how many tokens may still follow."""
    next_token = _TOKEN.match
    outer: list[tuple[bytes, list[Value]]] = []  # the open containers, with what they hold so far
    kind, items = b"", list[Value]()
    value: Value
    for left in range(max_tokens - 1, -1, -1):
        token = next_token(data, at)
        if token is None:
            raise _refuse(at, "no value starts here")
        length, number, bracket = token.groups()
        at = token.end()
        if length is not None:
            end = at + int(length)
            if end > len(data):
                raise _refuse(at, "a string is cut off")
            value, at = data[at:end], end
        elif number is not None:
            value = int(number)
            if value not in _INT64:
                raise _refuse(at, "an integer has more than 64 bits")
        elif bracket != b"e":
            if len(outer) == max_depth:
                raise _refuse(at, "it nests too deep")
            outer.append((kind, items))
            kind, items = bracket, []
            continue
        elif outer:
            value = items if kind == b"l" else _dictionary(items, at)
            kind, items = outer.pop()
        else:
            raise _refuse(at, "an end without a beginning")
        if not outer:
            return value, at, left
        items.append(value)
    raise _refuse(at, "it has too many values")


def _dictionary(items: list[Value], at: int) -> dict[bytes, Value]:
    keys = [key for key in items[::2] if isinstance(key, bytes)]
    values = items[1::2]
    if len(keys) * 2 != len(items) or len(values) != len(keys):
        raise _refuse(at, "a dictionary is not made of strings and their values")
    found = dict(zip(keys, values, strict=True))
    if len(found) != len(keys):
        found.clear()
        for key, value in zip(keys, values, strict=True):
            found.setdefault(key, value)
    return found


def _refuse(at: int, why: str) -> InvalidBencode:
    return InvalidBencode(hint=f"At byte {at}: {why}.")
