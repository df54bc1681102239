"""The reference store: a dictionary. It shows what the port means, and stands in for real stores in tests."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from torz.domain.errors import InvalidLink, TorzNotFound
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import Check, File, Page, StoreUser, Torz, TorzStatus
from torz.ports.store import Features

_LINK = "stremthru://store/memory/"


class Memory:
    """One account. What `cached` holds is downloaded as soon as it is added."""

    features = Features()

    def __init__(self, cached: Sequence[Torrent] = ()) -> None:
        self._cached = {torrent.hash.short: torrent for torrent in cached}
        self._torz: dict[str, Torz] = {}

    async def user(self) -> StoreUser:
        return StoreUser(id="memory")

    async def add(self, source: Magnet | Torrent) -> Torz:
        held = next((one for one in self._torz.values() if one.hash == source.hash.short), None)
        if held is None:
            held = self._new(source)
            self._torz = {held.id: held, **self._torz}
        return held

    async def list(self, limit: int, offset: int) -> Page:
        items = [msgspec.structs.replace(one, files=()) for one in self._torz.values()]
        return Page(items=tuple(items[offset : offset + limit]), total=len(items))

    async def get(self, id: str) -> Torz:
        try:
            return self._torz[id]
        except KeyError:
            raise TorzNotFound from None

    async def remove(self, id: str) -> None:
        await self.get(id)
        del self._torz[id]

    async def check(self, hashes: Sequence[InfoHash]) -> Sequence[Check]:
        return [
            Check(hash=hash.short, status=TorzStatus.CACHED, name=torrent.name, files=_files(torrent))
            if (torrent := self._cached.get(hash.short))
            else Check(hash=hash.short, status=TorzStatus.UNKNOWN)
            for hash in dict.fromkeys(hashes)
        ]

    async def link(self, link: str, client_ip: str | None) -> str:
        id, _, index = link.removeprefix(_LINK).partition("/")
        if not link.startswith(_LINK) or not index:
            raise InvalidLink
        if not any(file.link == link for file in (await self.get(id)).files):
            raise TorzNotFound
        return f"https://memory.example/{id}/{index}"

    def _new(self, source: Magnet | Torrent) -> Torz:
        id = secrets.token_hex(6)
        torrent = self._cached.get(source.hash.short)
        known = torrent or (source if isinstance(source, Torrent) else None)
        files = _files(known) if known else ()
        return Torz(
            id=id,
            hash=source.hash.short,
            name=known.name if known else source.name,
            size=known.size if known else None,
            status=TorzStatus.DOWNLOADED if torrent else TorzStatus.QUEUED,
            added_at=datetime.now(UTC).replace(microsecond=0),
            private=bool(known and known.private),
            files=tuple(msgspec.structs.replace(file, link=f"{_LINK}{id}/{file.index}") for file in files),
        )


def _files(torrent: Torrent) -> tuple[File, ...]:
    return tuple(File(index=f.index, path=f.path, size=f.size) for f in torrent.visible)
