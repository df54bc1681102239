"""What the runners share: change seeds at random, and hold a parser to its word."""

import random
import sys
import time
from collections.abc import Callable, Sequence

PATIENCE = 2.0
"""Seconds that any input may take; seeds are small, so most of it is for the machine's own pauses."""

SPICE = (b"d", b"l", b"i", b"e", b":", b"-", b"0", b"9" * 20, b"\x00", b"\xff\xfe", b"%", b"&", b"=", b"?", b",", b"..")


def hammer(seeds: Sequence[bytes], try_one: Callable[[bytes], object]) -> None:
    """Run `try_one` on mutants for argv[1] seconds, 10 by default; it raises on what the parser must not do."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    tries, until = 0, time.monotonic() + seconds
    while (started := time.monotonic()) < until:
        given = _mutate(chance, seeds)
        try:
            try_one(given)
            if time.monotonic() - started > PATIENCE:
                raise TimeoutError(f"longer than {PATIENCE} s")
        except BaseException:
            sys.stderr.write(f"seed {seed}, try {tries}: {given!r}\n")
            raise
        tries += 1
    sys.stdout.write(f"{tries} tries, nothing found\n")


def _mutate(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    given = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 8)):
        at, to = sorted(chance.randrange(len(given) + 1) for _ in range(2))
        match chance.randrange(5):
            case 0:
                given[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                given[at:at] = chance.choice(SPICE)
            case 2:
                del given[at : min(to, at + 20)]
            case 3:
                given[at:at] = given[at : at + 40] * chance.randint(1, 30)
            case _:
                given[at:to] = chance.choice(seeds)[at:to]
    return bytes(given)
