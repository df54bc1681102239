"""From what a client sends to what a store takes: a magnet, a hash, a URL, a file."""

from contextlib import suppress

from torz.domain.errors import BadRequest, InvalidInfoHash, InvalidMagnet, Unsupported
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import Torz
from torz.ports.fetch import Fetcher
from torz.ports.store import Store

_NOT_A_LINK = "Give a magnet, an info hash (40 hex digits or 32 base32 letters) or the http(s) URL of a .torrent."


class Adding:
    """Adds to a store whatever names a torrent."""

    def __init__(self, fetcher: Fetcher, max_size: int) -> None:
        self.max_size = min(max_size, 10 << 20)
        """Bytes of a .torrent, uploaded or fetched."""
        self._fetcher = fetcher

    async def link(self, store: Store, link: str) -> tuple[Torz, Magnet]:
        """Add by magnet, bare hash or URL. The torz, and the magnet that stands for it in the answer.

        Raises BadRequest at `link` for what is none of these, and what the store raises.
        """
        source = parse_link(link)
        if isinstance(source, str):
            fetched = await self._fetcher.get(source, self.max_size)
            if isinstance(fetched, bytes):
                return await self.file(store, fetched)
            source = _parse_magnet(fetched)
        return await store.add(source), source

    async def file(self, store: Store, data: bytes) -> tuple[Torz, Magnet]:
        """Add by the bytes of a .torrent. Raises InvalidTorrent for bytes that are none."""
        torrent = Torrent.parse(data)
        if not store.features.takes_torrent_file:
            raise Unsupported("torrent file is not supported")
        return await store.add(torrent), Magnet(hash=torrent.hash)


def parse_link(link: str) -> Magnet | str:
    """A magnet, also for a bare hash, or the text of a URL. Raises BadRequest at `link`."""
    text = link.strip()
    if text[:7].lower() == "magnet:":
        return _parse_magnet(text)
    if ":" in text:
        return text
    with suppress(InvalidInfoHash):
        hash = InfoHash.parse(text)
        if not hash.is_v2 and any(hash.raw):
            return Magnet(hash=hash)
    raise _invalid(_NOT_A_LINK)


def _parse_magnet(text: str) -> Magnet:
    try:
        magnet = Magnet.parse(text)
    except InvalidMagnet as exc:
        raise _invalid(exc.hint or _NOT_A_LINK) from exc
    if magnet.hash.is_v2:
        raise _invalid("A magnet needs a v1 info hash (urn:btih). Add the .torrent of a v2 torrent instead.")
    return magnet


def _invalid(hint: str) -> BadRequest:
    return BadRequest.at("link", "body", "invalid link", hint=hint)
