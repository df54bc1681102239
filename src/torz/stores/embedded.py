"""The embedded store: rows that say what is wanted, and a nudge to the node that makes it so."""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence

import msgspec

from torz.domain.directlink import LIFETIME, DirectLink
from torz.domain.errors import InvalidInfoHash, InvalidLink, InvalidMagnet, TorzNotFound
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import Check, File, Page, StoreUser, Torz, TorzStatus, Transfer, from_unix
from torz.ports.clock import Clock
from torz.ports.node import Changed, Event, NodeLink
from torz.ports.repo import HeldTorz, KnownTorrent, TorzRepo, decode_files
from torz.ports.store import Features

NAME = "torz"
CODE = "tz"
LINK_PREFIX = f"stremthru://store/{NAME}/"
_NODE_GONE = "The engine is starting; the download goes on by itself."


Items = list[bytes]
"""Encoded items of a check answer."""
Checks = list[Check]


class CheckCache:
    """Ready answers to checks by info hash: two generations of a dictionary, bounded in bytes.

    What is used again moves to the young one; when that is full the old one goes.
    """

    ITEM_OVERHEAD = 200
    """Bytes that a key and its place in the dictionary take, about."""

    def __init__(self, limit: int) -> None:
        self._limit = limit // 2
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._size = 0
        self.epoch = 0
        """Grows with everything that is dropped: what was looked up before may be stale after."""

    def get(self, hash: str) -> bytes | None:
        item = self._young.get(hash)
        if item is None and (item := self._old.get(hash)) is not None:
            self._keep(hash, item)
        return item

    def put(self, hash: str, item: bytes, epoch: int) -> None:
        """Keep an item that was looked up since `epoch`, unless something was dropped meanwhile."""
        if epoch == self.epoch:
            self._keep(hash, item)

    def drop(self, hash: str) -> None:
        self.epoch += 1
        self._young.pop(hash, None)
        self._old.pop(hash, None)

    def clear(self) -> None:
        self.epoch += 1
        self._young, self._old, self._size = {}, {}, 0

    def _keep(self, hash: str, item: bytes) -> None:
        self._young[hash] = item
        self._size += len(item) + self.ITEM_OVERHEAD
        if self._size > self._limit:
            self._young, self._old, self._size = {}, self._young, 0


_ABSENT = b"-"
"""Cached: nothing is known of it."""
_PRIVATE = b"p"
"""Cached: who may be told has to be looked up."""


class EmbeddedStore:
    """What all accounts share: the rows, the node, and the ready answers to checks."""

    def __init__(self, repo: TorzRepo, node: NodeLink, clock: Clock, link_key: bytes, check_cache: int) -> None:
        self.repo = repo
        self.node = node
        self.clock = clock
        self.link_key = link_key
        self.checks = CheckCache(check_cache)
        node.listen(self._hear)

    def account(self, name: str) -> "Embedded":
        return Embedded(self, name)

    def _hear(self, event: Event | None) -> None:
        if event is None:
            self.checks.clear()
        elif isinstance(event, Changed):
            self.checks.drop(event.hash.hex())


class Embedded:
    """One account at the embedded store."""

    features = Features(takes_torrent_file=True, signs_links=True)

    def __init__(self, store: EmbeddedStore, account: str) -> None:
        self._store = store
        self._repo = store.repo
        self._account = account

    async def user(self) -> StoreUser:
        return StoreUser(id=self._account)

    async def add(self, source: Magnet | Torrent) -> Torz:
        id = await self._repo.add(self._account, source, int(self._store.clock.now().timestamp()))
        self._store.checks.drop(str(source.hash.short))
        self._store.node.nudge()
        return await self.get(id)

    async def list(self, limit: int, offset: int) -> Page:
        held, total = await self._repo.list(self._account, limit, offset)
        return Page(items=tuple([self._torz(one) for one in held]), total=total)

    async def get(self, id: str) -> Torz:
        held = await self._repo.get(self._account, id)
        if held is None:
            raise _not_found()
        return self._torz(held)

    async def remove(self, id: str) -> None:
        hash = await self._repo.remove(self._account, id)
        if hash is None:
            raise _not_found()
        self._store.checks.drop(hash.hex())
        self._store.node.nudge()

    async def link(self, link: str, client_ip: str | None) -> str:
        id, index = _parse_link(link)
        file = next((f for f in (await self.get(id)).files if f.index == index), None)
        if file is None:
            raise TorzNotFound("file not found", hint="Get the torz again: it has no file of this number.")
        expires = int((self._store.clock.now() + LIFETIME).timestamp())
        return DirectLink(id, index, expires).sign(self._store.link_key) + "/" + file.name

    async def check(self, hashes: Sequence[InfoHash]) -> Checks:
        items = await self.check_encoded([str(hash.short) for hash in hashes])
        return [_decode_check(item) for item in items]

    def check_known(self, hashes: Sequence[str]) -> Items | None:
        get = self._store.checks.get
        items = []
        for hash in dict.fromkeys(hashes):
            item = get(hash)
            if item is None or item == _PRIVATE:
                return None
            if item != _ABSENT:
                items.append(item)
        return items

    async def check_encoded(self, hashes: Sequence[str]) -> Items:
        asked = dict.fromkeys(hash for text in hashes if (hash := _normal(text)))
        items = {hash: self._store.checks.get(hash) for hash in asked}
        missing = [hash for hash, item in items.items() if item is None or item == _PRIVATE]
        if missing:
            items |= await self._look_up(missing)
        return [item for item in items.values() if item and item != _ABSENT]

    async def _look_up(self, hashes: Sequence[str]) -> dict[str, bytes | None]:
        epoch = self._store.checks.epoch
        known = await self._repo.known([bytes.fromhex(hash) for hash in hashes])
        private = [one.hash for one in known if one.private]
        allowed = await self._repo.holds(self._account, private)
        found: dict[str, bytes | None] = dict.fromkeys(hashes, _ABSENT)
        shared: dict[str, bytes] = dict.fromkeys(hashes, _ABSENT)
        for one in known:
            hash = one.hash.hex()
            if not one.private:
                found[hash] = shared[hash] = _item(hash, one)
            else:
                shared[hash] = _PRIVATE
                found[hash] = _item(hash, one) if one.hash in allowed else _ABSENT
        for hash, item in shared.items():
            self._store.checks.put(hash, item, epoch)
        return found

    def _torz(self, held: HeldTorz) -> Torz:
        status, transfer = held.status, None
        if not held.complete:
            status, transfer = self._progress(held)
        files = [_with_link(held.id, file) for file in decode_files(held.files)] if held.files else []
        return Torz(
            id=held.id,
            hash=InfoHash(held.hash),
            name=held.name,
            size=held.size,
            status=status,
            added_at=from_unix(held.added_at),
            private=held.private,
            files=tuple(files),
            transfer=transfer,
        )

    def _progress(self, held: HeldTorz) -> tuple[TorzStatus, Transfer]:
        """How an unfinished one gets on: as the node last said, else as it was when it last said anything."""
        if not held.visible:
            message = "Waiting for metadata: add the .torrent file of a private torrent to be told about it."
            return TorzStatus.QUEUED, Transfer(message=message)
        said = self._store.node.progress(held.hash)
        if said is None:
            message = held.message or ("" if self._store.node.alive else _NODE_GONE)
            return held.status, Transfer(total=held.size, message=message)
        return said.status, Transfer(
            done=said.done,
            total=said.total if said.total is not None else held.size,
            download_rate=said.download_rate,
            upload_rate=said.upload_rate,
            peers=said.peers,
            seeds=said.seeds,
            message=said.message,
        )


def make_link(id: str, index: int) -> str:
    """A file's handle, in the form that all stores of the contract use."""
    return LINK_PREFIX + b64encode(f"{id}:{index}".encode()).decode()


def _parse_link(link: str) -> tuple[str, int]:
    try:
        if not link.startswith(LINK_PREFIX):
            raise ValueError
        id, _, index = b64decode(link.removeprefix(LINK_PREFIX), validate=True).decode().partition(":")
        if not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise ValueError
        return id, int(index)
    except ValueError:
        raise InvalidLink(hint="Send the `link` of a file as get or add gave it.") from None


def _with_link(id: str, file: File) -> File:
    return msgspec.structs.replace(file, link=make_link(id, file.index)) if file.index is not None else file


def _not_found() -> TorzNotFound:
    return TorzNotFound(hint="List the account to see which torz there are.")


def _normal(text: str) -> str | None:
    """The 40 lower-case hex digits of a hash in any form or of a magnet; None for what is malformed."""
    try:
        if text[:7].lower() == "magnet:":
            return str(Magnet.parse(text).hash.short)
        hash = InfoHash.parse(text)
        return None if hash.is_v2 else str(hash)
    except (InvalidInfoHash, InvalidMagnet):
        return None


def _item(hash: str, known: KnownTorrent) -> bytes:
    """One item of a check answer. The stored file list is already in the wire's words."""
    name = b'"name":%b,' % msgspec.json.encode(known.name) if known.name else b""
    cached = known.complete and known.files is not None
    return b'{"hash":"%b","magnet":"magnet:?xt=urn:btih:%b",%b"status":"%b","files":%b}' % (
        hash.encode(),
        hash.encode(),
        name,
        b"cached" if cached else b"unknown",
        known.files if cached and known.files else b"[]",
    )


def _decode_check(item: bytes) -> Check:
    said = json.loads(item)
    return Check(
        hash=InfoHash.parse(said["hash"]),
        status=TorzStatus(said["status"]),
        name=said.get("name", ""),
        files=tuple(decode_files(msgspec.json.encode(said["files"]))),
    )
