"""The Torz API as calls that take and give the values of `torz.domain`."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import UNSET

from torz.domain.errors import StoreBroken, StoreUnavailable
from torz.domain.infohash import InfoHash
from torz.domain.torz import Check, File, Page, StoreUser, Subscription, Torz, TorzStatus, Transfer
from torz.wire import errors
from torz.wire.shapes import (
    EPOCH,
    MAX_CHECK,
    AddedTorz,
    AddLink,
    Answer,
    CheckAnswer,
    Debug,
    FileShape,
    GenerateLink,
    Health,
    Link,
    ListItem,
    Removed,
    TorzPage,
    TorzShape,
    UserShape,
)

T = TypeVar("T")
DONE = (TorzStatus.DOWNLOADED, TorzStatus.FAILED, TorzStatus.INVALID)
"""Statuses that do not change by themselves."""


class Client:
    """One account at one store of one server. Use it as an async context manager, or `aclose` it."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8679",
        *,
        auth: str = "",
        store: str = "",
        token: str = "",
        timeout: float = 90.0,
    ) -> None:
        """`auth` is the server's `user:password`; `store` and `token` name a store of the caller's own.

        `timeout` is in seconds for a call, downloads not counted.
        """
        self.url = url.rstrip("/")
        self._headers = {"Accept": "application/json", **_credentials(auth, store, token)}
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections, for fetching what links lead to. It sends no credentials of ours by itself."""
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        return self._session

    async def health(self) -> bool:
        """Whether the server says that it is well."""
        return (await self._send("GET", "/v0/health", Health)).status == "ok"

    async def debug(self) -> Debug:
        """Version and time; for users of the server also the state of its engine."""
        return await self._send("GET", "/v0/health/__debug__", Debug)

    async def user(self) -> StoreUser:
        """Whose account it is."""
        shape = await self._send("GET", "/v0/store/user", UserShape)
        known = shape.subscription_status in tuple(Subscription)
        subscription = Subscription(shape.subscription_status) if known else Subscription.EXPIRED
        return StoreUser(id=shape.id, email=shape.email, subscription=subscription, has_usenet=shape.has_usenet)

    async def add(self, source: str | bytes | Path) -> Torz:
        """Add by magnet, info hash or URL, or by a .torrent: its bytes or path. Adding again gives the same torz."""
        if isinstance(source, str):
            body = msgspec.json.encode(AddLink(source))
            shape = await self._send("POST", "/v0/store/torz", AddedTorz, body=body)
        else:
            data = await asyncio.to_thread(source.read_bytes) if isinstance(source, Path) else source
            form = aiohttp.FormData()
            form.add_field("file", data, filename="upload.torrent", content_type="application/x-bittorrent")
            shape = await self._send("POST", "/v0/store/torz", AddedTorz, form=form)
        return _torz(shape)

    async def list(self, limit: int = 100, offset: int = 0) -> Page:
        """A slice of the account, newest first, without files."""
        query = {"limit": str(limit), "offset": str(offset)}
        shape = await self._send("GET", "/v0/store/torz", TorzPage, query=query)
        return Page(items=tuple(_item(item) for item in shape.items), total=shape.total_items)

    async def all(self) -> AsyncIterator[Torz]:
        """Every torz of the account, newest first."""
        offset = 0
        while True:
            page = await self.list(500, offset)
            for torz in page.items:
                yield torz
            offset += len(page.items)
            if not page.items or offset >= page.total:
                return

    async def get(self, id: str) -> Torz:
        """One torz with its files. Raises TorzNotFound."""
        return _torz(await self._send("GET", f"/v0/store/torz/{quote(id, safe='')}", TorzShape))

    async def remove(self, id: str) -> None:
        """Take it off the account. Raises TorzNotFound."""
        await self._send("DELETE", f"/v0/store/torz/{quote(id, safe='')}", Removed)

    async def check(self, hashes: Iterable[str | InfoHash], sid: str | None = None) -> Sequence[Check]:
        """What is known of these, in as many requests as it takes; a hash of which nothing is known is left out."""
        texts = [str(hash) for hash in hashes]
        found: list[Check] = []
        for start in range(0, len(texts), MAX_CHECK):
            query = {"hash": ",".join(texts[start : start + MAX_CHECK]), **({"sid": sid} if sid else {})}
            shape = await self._send("GET", "/v0/store/torz/check", CheckAnswer, query=query)
            found += [
                Check(
                    hash=InfoHash.parse(item.hash),
                    status=item.status,
                    name=item.name or "",
                    files=tuple(map(_file, item.files)),
                )
                for item in shape.items
            ]
        return found

    async def link(self, link: str) -> str:
        """A direct link for a file's `link`."""
        body = msgspec.json.encode(GenerateLink(link))
        return (await self._send("POST", "/v0/store/torz/link/generate", Link, body=body)).link

    async def wait(self, id: str, *, on_change: Callable[[Torz], None] | None = None, every: float = 1.0) -> Torz:
        """Wait until it is downloaded, or has failed for good; look every so many seconds, and tell each time."""
        while True:
            torz = await self.get(id)
            if on_change:
                on_change(torz)
            if torz.status in DONE:
                return torz
            await asyncio.sleep(every)

    async def _send(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        form: aiohttp.FormData | None = None,
    ) -> T:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        try:
            async with self.session.request(
                method, self.url + path, params=query, data=form or body, headers=headers, timeout=self._timeout
            ) as answer:
                return _decode(answer, await answer.read(), kind)
        except TimeoutError as exc:
            raise StoreUnavailable(f"{self.url} did not answer in time.") from exc
        except aiohttp.ClientConnectorError as exc:
            raise StoreUnavailable(f"Nothing answers at {self.url}. Start the server with: torz serve") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise StoreUnavailable(f"{self.url} broke off: {exc or type(exc).__name__}.") from exc


def _decode(answer: aiohttp.ClientResponse, body: bytes, kind: type[T]) -> T:
    if answer.status >= 400:
        after = answer.headers.get("Retry-After", "")
        raise errors.decode(answer.status, body, int(after) if after.isdecimal() else None)
    try:
        decoded: Any = msgspec.json.decode(body, type=Answer[kind])  # type: ignore[valid-type]
    except msgspec.MsgspecError as exc:
        raise StoreBroken("The server answered with something that is not the Torz API.") from exc
    data: T = decoded.data
    return data


def _credentials(auth: str, store: str, token: str) -> dict[str, str]:
    headers = {}
    if auth:
        encoded = b64encode(auth.encode()).decode() if ":" in auth else auth
        headers["X-StremThru-Authorization"] = f"Basic {encoded}"
    if store:
        headers["X-StremThru-Store-Name"] = store
    if token:
        headers["X-StremThru-Store-Authorization"] = f"Bearer {token}"
    return headers


def _item(shape: ListItem) -> Torz:
    return Torz(
        id=shape.id,
        hash=InfoHash.parse(shape.hash),
        name=shape.name,
        size=_known(shape.size),
        status=shape.status,
        added_at=None if shape.added_at == EPOCH else datetime.fromisoformat(shape.added_at),
        private=shape.private is True,
        transfer=None if shape.transfer is UNSET else _transfer(shape.transfer),
    )


def _torz(shape: TorzShape) -> Torz:
    return msgspec.structs.replace(_item(shape), files=tuple(map(_file, shape.files)))


def _transfer(shape: Any) -> Transfer:
    return Transfer(
        done=shape.done,
        total=_known(shape.total),
        download_rate=shape.download_rate,
        upload_rate=shape.upload_rate,
        peers=shape.peers,
        seeds=shape.seeds,
        message=shape.message,
    )


def _file(shape: FileShape) -> File:
    return File(
        index=_known(shape.index),
        path=shape.path or "/" + shape.name,
        size=_known(shape.size),
        link=shape.link or "",
        video_hash=shape.video_hash or "",
        source=shape.source or "",
    )


def _known(number: int) -> int | None:
    return None if number < 0 else number
