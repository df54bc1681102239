"""Direct links to our own files: signed, bound to one file of one torz, good for twelve hours."""

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta

import msgspec

from torz.domain.errors import InvalidLink, LinkGone

LIFETIME = timedelta(hours=12)
_SIGNATURE = 16
"""Bytes of HMAC-SHA256 that are kept: as hard to guess as the key of AES-128."""
_FORM = struct.Struct(">IQ")


class DirectLink(msgspec.Struct, frozen=True):
    """What a signed link says. It names no account and carries no credentials."""

    torz_id: str
    index: int
    expires: int
    """Unix seconds."""

    def sign(self, key: bytes) -> str:
        """The token for the URL."""
        said = _FORM.pack(self.index, self.expires) + self.torz_id.encode()
        return _text(_signature(key, said) + said)

    @classmethod
    def verify(cls, token: str, key: bytes, now: int) -> "DirectLink":
        """Read a token. Raises InvalidLink for one that we did not sign, LinkGone for one that has expired."""
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raw = b""
        if _text(raw) != token:  # the decoder skips what is no base64 and ignores spare bits
            raw = b""
        signature, said = raw[:_SIGNATURE], raw[_SIGNATURE:]
        if len(said) <= _FORM.size or not hmac.compare_digest(signature, _signature(key, said)):
            raise InvalidLink(hint="Ask link/generate for a link; this one was not made by this server.")
        index, expires = _FORM.unpack(said[: _FORM.size])
        if now >= expires:
            raise LinkGone(hint="Direct links last twelve hours. Ask link/generate for a new one.")
        return cls(said[_FORM.size :].decode(), index, expires)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, "sha256")[:_SIGNATURE]
