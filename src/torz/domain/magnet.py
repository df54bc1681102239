"""Magnets: an info hash, and hints where to find its swarm."""

import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Address
from itertools import islice
from typing import Self
from urllib.parse import quote, unquote_plus, urlsplit

import msgspec

from torz.domain.errors import InvalidInfoHash, InvalidMagnet
from torz.domain.infohash import InfoHash

MAX_BYTES = 64 * 1024
MAX_TRACKERS = 100
MAX_WEB_SEEDS = 20
MAX_PEERS = 50
MAX_URL = 2048
"""Characters."""

_TRACKER_SCHEMES = ("http", "https", "udp", "ws", "wss")
_WEB_SEED_SCHEMES = ("http", "https")
_MAX_LOOKS = 1000  # a torrent may list a hundred thousand trackers; the good ones stand in front
_NUMBERED = re.compile(r"(xt|tr)\.[0-9]+", re.ASCII)
_PEER = re.compile(r"([a-z0-9._-]{1,253}|\[([0-9a-f:.]{2,45})\]):([0-9]{1,5})", re.IGNORECASE | re.ASCII)
# NUL, which no database takes, and what turns the direction of writing vanish; other controls stay visible.
_UNPRINTABLE = dict.fromkeys([*range(0x01, 0x20), *range(0x7F, 0xA0)], "_") | dict.fromkeys(
    [0x00, 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], ""
)


class Magnet(msgspec.Struct, frozen=True):
    """A URI that names a torrent. Source: BEP 9 and BEP 53; for `xt` of v2, BEP 52."""

    hash: InfoHash
    """The v1 hash, or the v2 one of a torrent that has no other."""
    v2: InfoHash | None = None
    """The other hash of a hybrid, which has both."""
    name: str = ""
    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    """`host:port`, with brackets around an IPv6 address."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a magnet; hints that are wrong or too many are left out.

        Raises InvalidMagnet, and nothing else for any text, when it is not a magnet, its first `xt` is no info hash,
        or it is over 64 KiB, as given or as printed.
        """
        given = _parameters(text)
        hashes = [_hash(urn) for urn in given.get("xt", ())]
        if not hashes or hashes[0] is None:
            raise InvalidMagnet(hint="Its first xt must be urn:btih: or urn:btmh:1220 with an info hash.")
        v1 = next((found for found in hashes if found and not found.is_v2), None)
        v2 = next((found for found in hashes if found and found.is_v2), None)
        magnet = cls(
            hash=v1 or hashes[0],
            v2=v2 if v1 else None,
            name=printable(next(iter(given.get("dn", ())), "")),
            trackers=allowed_trackers(given.get("tr", ())),
            web_seeds=allowed_web_seeds(given.get("ws", ())),
            peers=_peers(given.get("x.pe", ())),
        )
        if len(str(magnet)) > MAX_BYTES:
            raise _too_long()
        return magnet

    def __str__(self) -> str:
        """The whole magnet; `Magnet.parse` reads it back as an equal one."""
        xts = f"xt={_urn(self.hash)}" + (f"&xt={_urn(self.v2)}" if self.v2 else "")
        hints = [("dn", self.name)] if self.name else []
        hints += [("tr", url) for url in self.trackers]
        hints += [("ws", url) for url in self.web_seeds]
        hints += [("x.pe", peer) for peer in self.peers]
        return f"magnet:?{xts}" + "".join(f"&{key}={quote(value, safe='')}" for key, value in hints)

    @property
    def public(self) -> str:
        """What answers carry: hash and name alone, since a tracker's URL may hold a passkey."""
        return f"magnet:?xt=urn:btih:{self.hash.short}" + (f"&dn={quote(self.name, safe='')}" if self.name else "")


def printable(text: str) -> str:
    """Control characters as `_`; NUL and what turns the direction of writing left out. Otherwise as it was."""
    return text.translate(_UNPRINTABLE)


def allowed_trackers(urls: Iterable[str]) -> tuple[str, ...]:
    """The first 100 different ones that the engine may announce to."""
    return _allowed(urls, _TRACKER_SCHEMES, MAX_TRACKERS)


def allowed_web_seeds(urls: Iterable[str]) -> tuple[str, ...]:
    """The first 20 different ones that the engine may fetch from."""
    return _allowed(urls, _WEB_SEED_SCHEMES, MAX_WEB_SEEDS)


def _allowed(urls: Iterable[str], schemes: tuple[str, ...], limit: int) -> tuple[str, ...]:
    looked_at = (url.strip() for url in islice(urls, _MAX_LOOKS))
    return tuple(islice(dict.fromkeys(url for url in looked_at if _is_url(url, schemes)), limit))


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    # Parsers differ over blanks, controls and backslashes, so that one may check a host and another call a second one.
    if not 0 < len(url) <= MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        return False
    with suppress(ValueError):  # a bad port, or brackets around no address
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    return False


def _peers(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(islice(dict.fromkeys(text for text in islice(texts, _MAX_LOOKS) if _is_peer(text)), MAX_PEERS))


def _is_peer(text: str) -> bool:
    found = _PEER.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        return False
    with suppress(ValueError):
        return found[2] is None or bool(IPv6Address(found[2]))
    return False


def _parameters(text: str) -> dict[str, list[str]]:
    text = text.strip()
    scheme, mark, query = text.partition("?")
    if not mark or scheme.lower() != "magnet:":
        raise InvalidMagnet(hint="A magnet starts with magnet:? and names an info hash.")
    try:
        if len(text) > MAX_BYTES or len(text.encode()) > MAX_BYTES:
            raise _too_long()
    except UnicodeEncodeError as exc:
        raise InvalidMagnet(hint="It is not made of Unicode characters.") from exc
    found: dict[str, list[str]] = {}
    for parameter in query.split("&"):
        key, _, value = parameter.partition("=")
        key = unquote_plus(key).lower()
        found.setdefault(_NUMBERED.sub(r"\1", key), []).append(unquote_plus(value))
    return found


def _urn(info_hash: InfoHash) -> str:
    return f"urn:btmh:1220{info_hash}" if info_hash.is_v2 else f"urn:btih:{info_hash}"


def _hash(urn: str) -> InfoHash | None:
    kind, _, digits = urn.lower().rpartition(":")
    is_v2 = kind == "urn:btmh"
    if is_v2:
        if not digits.startswith("1220"):  # the multihash of SHA-256: code 12, 20 (32) bytes
            return None
        digits = digits[4:]
    elif kind != "urn:btih":
        return None
    with suppress(InvalidInfoHash):
        found = InfoHash.parse(digits)
        if found.is_v2 is is_v2 and any(found.raw):
            return found
    return None


def _too_long() -> InvalidMagnet:
    return InvalidMagnet(hint=f"It is longer than {MAX_BYTES // 1024} KiB.")
