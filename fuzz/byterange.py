"""python fuzz/byterange.py [seconds]."""

from contextlib import suppress

from mutation import hammer

from torz.domain.byterange import parse_range, pieces_of
from torz.domain.errors import RangeNotSatisfiable

SEEDS = (b"bytes=0-4", b"bytes=-5", b"bytes=10-", b"bytes=0-0, 5-6 ,-1,,", b"BYTES=9-99999999999999999999")
SIZES = (0, 1, 13, 10**6, 2**63)


def try_one(given: bytes) -> None:
    header = given.decode("latin-1")
    for size in SIZES:
        with suppress(RangeNotSatisfiable):
            for found in parse_range(header, size) or ():
                pieces = pieces_of(found, 4)
                if not 0 <= found.start < found.end <= size or not pieces.start * 4 <= found.start < pieces.stop * 4:
                    raise AssertionError(f"{found} of {size}")


if __name__ == "__main__":
    hammer(SEEDS, try_one)
