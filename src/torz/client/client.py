"""The Torz API as calls that take and give the values of `torz.domain`."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiohttp
import msgspec
from msgspec import UNSET

from torz.client.download import Download, Progress, retry_after
from torz.domain.errors import InvalidInfoHash, StoreBroken, StoreUnavailable, TooManyRequests, Unavailable
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
    TransferShape,
    UserShape,
)

T = TypeVar("T")
DONE = (TorzStatus.DOWNLOADED, TorzStatus.FAILED, TorzStatus.INVALID)
"""Statuses that do not change by themselves."""
_MISSED = 5
"""How often in a row `wait` may find nobody there."""


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
        self.url, user = _without_user(url)
        auth = auth or user
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
            self._session = aiohttp.ClientSession(headers={"Accept-Encoding": "identity"})
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
        """Every torz of the account, newest first; each once, also when others are added meanwhile."""
        offset, seen = 0, set[str]()
        while True:
            page = await self.list(500, offset)
            for torz in page.items:
                if torz.id not in seen:
                    seen.add(torz.id)
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
                    hash=_hash(item.hash),
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
        """Wait until it is downloaded, or has failed for good; look every so many seconds, and tell what is new.

        A server that is away for a few looks is waited for; then StoreUnavailable is raised.
        """
        before, missed = None, 0
        while True:
            try:
                torz = await self.get(id)
            except (StoreUnavailable, Unavailable, TooManyRequests) as exc:
                missed += 1
                if missed > _MISSED:
                    raise
                await asyncio.sleep(exc.retry_after or every * missed)
                continue
            missed = 0
            if on_change and torz != before:
                on_change(torz)
            if torz.status in DONE:
                return torz
            before = torz
            await asyncio.sleep(every)

    async def download(
        self, url: str, path: Path, *, connections: int = 4, on_progress: Progress | None = None
    ) -> Path:
        """Fetch what a direct link leads to into a file, going on where an earlier try stopped; see `Download.run`."""
        return await Download(self.session, url, path).run(connections, on_progress)

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
                method,
                self.url + path,
                params=query,
                data=form or body,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,  # our credentials are for this server alone
            ) as answer:
                return _decode(answer, await answer.read(), kind)
        except aiohttp.InvalidURL as exc:
            raise StoreUnavailable(f"{self.url} is no address of a server, such as http://127.0.0.1:8679.") from exc
        except TimeoutError as exc:
            raise StoreUnavailable(f"{self.url} did not answer in time.") from exc
        except aiohttp.ClientConnectorError as exc:
            raise StoreUnavailable(f"Nothing answers at {self.url}. Start the server with: torz serve") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise StoreUnavailable(f"{self.url} broke off: {exc or type(exc).__name__}.") from exc


def _decode(answer: aiohttp.ClientResponse, body: bytes, kind: type[T]) -> T:
    if answer.status >= 400:
        raise errors.decode(answer.status, body, retry_after(answer))
    if answer.status >= 300:
        raise StoreBroken("The server sends us somewhere else, and our credentials are for it alone. Correct its URL.")
    try:
        decoded: Any = msgspec.json.decode(body, type=Answer[kind])  # type: ignore[valid-type]
    except msgspec.MsgspecError as exc:
        raise _not_ours() from exc
    data: T = decoded.data
    return data


def _not_ours() -> StoreBroken:
    return StoreBroken("The server answered with something that is not the Torz API.")


def _hash(text: str) -> InfoHash:
    try:
        return InfoHash.parse(text)
    except InvalidInfoHash as exc:
        raise _not_ours() from exc


def _time(text: str) -> datetime | None:
    """None for the epoch, and for the year 1 that some stores say instead."""
    if text == EPOCH:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise _not_ours() from exc
    if at.year == 1:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _without_user(url: str) -> tuple[str, str]:
    """An address for messages, which no password may stand in, and the `user:password` that stood in it."""
    try:
        parts = urlsplit(url.rstrip("/"))
    except ValueError:
        return url, ""
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)), unquote(user)


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
        hash=_hash(shape.hash),
        name=shape.name,
        size=_known(shape.size),
        status=shape.status,
        added_at=_time(shape.added_at),
        private=shape.private is True,
        transfer=None if shape.transfer is UNSET else _transfer(shape.transfer),
    )


def _torz(shape: TorzShape) -> Torz:
    return msgspec.structs.replace(_item(shape), files=tuple(map(_file, shape.files)))


def _transfer(shape: TransferShape) -> Transfer:
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
