"""python fuzz/magnet.py [seconds]."""

from contextlib import suppress

from mutation import hammer

from torz.domain.errors import InvalidMagnet
from torz.domain.magnet import Magnet

V1, V2 = "db42af2b6ae098558b98a14cd7874ef64162cac8", "ab" * 32
SEEDS = (
    f"magnet:?xt=urn:btih:{V1}&dn=A+B%26C&tr=udp%3A%2F%2Ft.example%3A1337&ws=http://w.example/&x.pe=[::1]:6881".encode(),
    f"magnet:?xt=urn:btmh:1220{V2}&xt=urn:btih:{V1}&tr.1=https://t.example/announce&x.pe=10.0.0.1:1".encode(),
    b"MAGNET:?XT=URN:BTIH:3NBK6K3K4CMFLC4YUFGNPB2O6ZAWFSWI&DN=%E2%80%AE",
)


def try_one(given: bytes) -> None:
    with suppress(InvalidMagnet):
        magnet = Magnet.parse(given.decode("utf-8", "surrogateescape"))
        for printed in (str(magnet), magnet.public):
            if not printed.isascii() or str(Magnet.parse(printed).hash)[:40] != str(magnet.hash.short):
                raise AssertionError(printed)
        if Magnet.parse(str(magnet)) != magnet:
            raise AssertionError("printed and read again it is another")


if __name__ == "__main__":
    hammer(SEEDS, try_one)
