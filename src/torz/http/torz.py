"""The torz endpoints, and the older generation over the same services."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated
from urllib.parse import quote, unquote_plus

import msgspec
from msgspec import Meta
from starlette.types import Send

from torz.domain.errors import BadRequest, ErrorItem, InvalidInfoHash, InvalidMagnet, Unauthorized
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.http.origin import Origin
from torz.http.typed import Request, send_start
from torz.ports.store import ChecksEncoded, Store
from torz.services.adding import Adding
from torz.wire.shapes import (
    MAX_CHECK,
    AddedTorz,
    AddLink,
    AddMagnet,
    CheckItem,
    GenerateLink,
    Link,
    Removed,
    TorzPage,
    TorzShape,
    UserShape,
)

MAX_LIST = 500
DIRECT_LINKS = "/v0/link/"
"""Where direct links to our own files begin."""


class Paging(msgspec.Struct):
    limit: Annotated[str, Meta(description="How many at most, 1 to 500; 100 by default.")] = "100"
    offset: Annotated[str, Meta(description="How many of the newest are left out.")] = "0"


class CheckQuery(msgspec.Struct):
    hash: Annotated[
        str, Meta(description="Info hashes or magnets, at most 500: repeated, joined by commas, or both.")
    ] = ""
    sid: Annotated[str, Meta(description="A Stremio stream id: only torrents with a file for it count.")] = ""
    local_only: Annotated[str, Meta(description="Not empty: answer from what this server knows.")] = ""
    client_ip: Annotated[str, Meta(description="The viewer's public address.")] = ""


class LegacyCheckQuery(msgspec.Struct):
    magnet: Annotated[str, Meta(description="Magnets or info hashes: repeated, joined by commas, or both.")] = ""
    sid: str = ""
    local_only: str = ""
    client_ip: str = ""


class TorzHandlers:
    """The endpoints of both generations: `legacy` says which one's words count."""

    def __init__(self, adding: Adding, origin: Origin, *, legacy: bool = False) -> None:
        self._adding = adding
        self._origin = origin
        self._legacy = legacy
        self._check_key = b"magnet" if legacy else b"hash"

    async def user(self, request: Request) -> UserShape:
        return UserShape.of(await (await request.store()).user())

    async def add(self, request: Request, body: AddLink | AddMagnet | bytes) -> AddedTorz:
        store = await request.store()
        if isinstance(body, bytes):
            torz, magnet = await self._adding.file(store, body)
        else:
            torz, magnet = await self._adding.link(store, self._link_of(body))
        return AddedTorz.of(torz, magnet)

    def _link_of(self, body: AddLink | AddMagnet) -> str:
        link = body.link if isinstance(body, AddLink) else body.magnet or body.torrent
        if not link.strip():
            if self._legacy:
                raise BadRequest.saying("missing magnet link", hint="Send `magnet`, or `torrent` with a URL.")
            raise BadRequest.at("link", "body", "missing link", hint="Send `link`: a magnet, an info hash or a URL.")
        return link

    async def list(self, request: Request, query: Paging) -> TorzPage:
        limit, offset = _number("limit", query.limit, "100"), _number("offset", query.offset, "0")
        if limit > MAX_LIST:
            if not self._legacy:
                raise BadRequest.saying(f"limit cannot be greater than {MAX_LIST}")
            limit = MAX_LIST
        if limit < 1:
            raise BadRequest.saying("limit cannot be less than 1")
        if offset < 0:
            raise BadRequest.saying("offset cannot be less than 0")
        return TorzPage.of(await (await request.store()).list(limit, min(offset, 1 << 62)))

    async def get(self, request: Request) -> TorzShape:
        return TorzShape.of(await (await request.store()).get(request.params["id"]))

    async def remove(self, request: Request) -> Removed:
        await (await request.store()).remove(request.params["id"])
        return Removed(request.params["id"])

    async def check(self, request: Request, send: Send) -> None:
        """The hottest route: texts in, ready items out."""
        texts = self._pieces(request.scope["query_string"])
        store = await request.store()
        items = await _check(store, texts)
        body = b'{"data":{"items":[' + b",".join(items) + b"]}}\n"
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        await send_start(send, request, 200, headers)
        await send({"type": "http.response.body", "body": body})

    def _pieces(self, query: bytes) -> Sequence[str]:
        values = [
            unquote_plus(value.decode("latin-1")) if b"%" in value or b"+" in value else value.decode("latin-1")
            for key, _, value in (part.partition(b"=") for part in query.split(b"&"))
            if key == self._check_key
        ]
        if self._legacy:  # magnets come unescaped too, and then their parameters look like ours
            values = [value for value in values if value]
        name = self._check_key.decode()
        pieces = [piece for value in values for piece in value.split(",") if piece]
        if not pieces:
            message = f"missing {name}"
            item = ErrorItem(message, name, "query")
            raise BadRequest("Bad Request" if not values else message, items=(item,), hint=f"Send `{name}`.")
        if len(pieces) > MAX_CHECK:
            plural = "magnets" if self._legacy else "hashes"
            raise BadRequest.saying(f"too many {plural}, max allowed {MAX_CHECK}")
        return pieces

    async def report(self, request: Request) -> None:
        """Cache reports of other servers are not taken; clients that try fall back to `check`."""
        raise Unauthorized.saying("unauthorized", hint="Ask with GET; reports are taken from no peer.")

    async def link(self, request: Request, body: GenerateLink) -> Link:
        if not body.link:
            raise BadRequest.at("link", "body", "missing link", hint="Send `link`: the `link` of a file.")
        store = await request.store()
        link = await store.link(body.link, None)
        if store.features.signs_links:
            token, _, name = link.partition("/")
            link = self._origin.of(request) + DIRECT_LINKS + token + "/" + quote(name, safe="")
        return Link(link)


async def _check(store: Store, texts: Sequence[str]) -> list[bytes]:
    if isinstance(store, ChecksEncoded):
        ready = store.check_known(texts)
        return ready if ready is not None else await store.check_encoded(texts)
    hashes = dict.fromkeys(hash for text in texts if (hash := _hash(text)))
    return [msgspec.json.encode(CheckItem.of(check)) for check in await store.check(list(hashes))]


def _hash(text: str) -> InfoHash | None:
    """A hash in any form, or a magnet's; None for what is malformed, which is dropped."""
    with suppress(InvalidInfoHash, InvalidMagnet):
        return (Magnet.parse(text).hash if text[:7].lower() == "magnet:" else InfoHash.parse(text)).short
    return None


def _number(name: str, text: str, default: str) -> int:
    """A whole number; empty counts as absent."""
    try:
        number = int(text or default)
    except ValueError:
        number = None
    if number is None or not (text or default).lstrip("+-").isdecimal():
        raise BadRequest.saying(f"invalid {name}", hint=f"`{name}` is a whole number.")
    return number
