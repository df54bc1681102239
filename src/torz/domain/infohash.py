"""Info hashes: what names a torrent."""

from base64 import b32decode
from binascii import unhexlify
from contextlib import suppress
from typing import Self

import msgspec

from torz.domain.errors import InvalidInfoHash


class InfoHash(msgspec.Struct, frozen=True, order=True):
    """Names a torrent: SHA-1 of its info dictionary (v1, 20 bytes) or SHA-256 (v2, 32 bytes).

    Equal hashes mean equal content, so this, never a title, is the key everywhere.
    Source: BEP 3, BEP 52; base32 form: BEP 9.
    """

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 40 or 64 hex digits, or 32 base32 letters, in either case.

        Raises InvalidInfoHash for anything else, and nothing else for any text.
        """
        with suppress(ValueError):  # how both decoders refuse
            raw = b32decode(text, casefold=True) if len(text) == 32 else unhexlify(text)
            if len(raw) in (20, 32):
                return cls(raw)
        raise InvalidInfoHash(hint="Give 40 hex digits or 32 base32 letters.")

    @property
    def short(self) -> Self:
        """The 20 bytes that go on the wire: a v2 hash is cut, as BEP 52 does on trackers."""
        return self if len(self.raw) == 20 else type(self)(self.raw[:20])

    @property
    def is_v2(self) -> bool:
        return len(self.raw) == 32

    def __str__(self) -> str:
        return self.raw.hex()
