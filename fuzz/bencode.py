"""python fuzz/bencode.py [seconds]."""

from contextlib import suppress

from mutation import hammer

from torz.domain.bencode import decode, encode, info_span
from torz.domain.errors import InvalidBencode

SEEDS = (
    b"d4:infod6:lengthi13e4:name8:greetingee",
    b"li-1ei0e3:abcd1:al1:beee",
    b"l" * 100 + b"e" * 100,
    b"d1:ai1e1:ai2e0:0:e",
)


def try_one(given: bytes) -> None:
    with suppress(InvalidBencode):
        value = decode(given)
        if decode(encode(value)) != value:
            raise AssertionError("printed and read again it is another")
    with suppress(InvalidBencode):
        start, end = info_span(given)
        decode(given[start:end])


if __name__ == "__main__":
    hammer(SEEDS, try_one)
