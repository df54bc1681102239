"""Typed handlers → ASGI: what a route takes and gives is said once, and validates, encodes and documents itself.

A request passes, in this order: request id, path, access to the store, method, query and body. The contract fixes the
order: without credentials a wrong method is still "missing store".
"""

import json
import logging
import re
import secrets
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from enum import Enum
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.types import Receive, Scope, Send

from torz.domain.errors import BadRequest, MediaTypeUnsupported, MethodNotAllowed, RouteNotFound, TorzError
from torz.ports.store import Store
from torz.services.auth import Access, Auth
from torz.services.stores import Stores
from torz.wire import errors
from torz.wire.shapes import Answer

log = logging.getLogger("torz.http")
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered, for the log."""

_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_MAX_JSON = 1 << 20
"""Bytes of a JSON body: the longest real one is a magnet of 64 KiB."""
_MAX_FIELDS = 10_000


class HungUp(Exception):
    """An answer cannot be finished, or nobody waits for it any more: the connection is closed, and that is all."""


class Family(Enum):
    """Which envelope a route's errors come in."""

    TORZ = "torz"
    LEGACY = "legacy"


class Entry(Enum):
    """Who may use a route."""

    STORE = "store"
    """Those with access to a store."""
    OPEN = "open"
    """Everybody. Each one has its reason in the table of routes."""


class Request:
    """One request: what came in, and what is known of who sent it."""

    def __init__(self, scope: Scope, receive: Receive, id: str, app: "App") -> None:
        self.scope = scope
        self.receive = receive
        self.id = id
        self.app = app
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.params: dict[str, str] = {}
        self.headers = _headers(scope)
        self.access: Access | None = None
        self.answer_headers: dict[str, str] = {}

    @cached_property
    def query(self) -> dict[str, str]:
        """The query parameters; of a repeated one the first counts."""
        pairs = _parse_query(self.scope["query_string"])
        return dict(reversed(pairs))

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises TooLarge above `limit` bytes."""
        from torz.http.bodies import read_body  # here, because multipart costs memory that few requests need

        return await read_body(self, limit)

    async def store(self) -> Store:
        """The store that the request has access to."""
        assert self.access is not None
        return await self.app.stores.open(self.access)


class Reply:
    """An answer that is not the usual JSON."""

    def __init__(
        self, body: bytes = b"", *, status: int = 200, media_type: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.headers = {**({"Content-Type": media_type} if media_type else {}), **(headers or {})}


Handler = Callable[..., Awaitable[Any]]


class Route:
    """One operation: method, path, handler, and the types of what goes in and out."""

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        summary: str,
        *,
        query: type[msgspec.Struct] | None = None,
        body: type[msgspec.Struct] | None = None,
        file: str = "",
        answer: Any = None,
        status: int = 200,
        streams: bool = False,
        wrap: bool = True,
        any_method: bool = False,
    ) -> None:
        """`file` names the part of a multipart upload that the route takes beside JSON; a route that `streams` sends
        its answer itself; one that does not `wrap` returns a Reply."""
        self.method = method
        self.path = path
        self.handler = handler
        self.summary = summary
        self.entry = Entry.STORE
        self.family = family_of(path)
        self.query = query
        self.body = body
        self.file = file
        self.answer = answer
        self.status = status
        self.streams = streams
        self.wrap = wrap
        self.any_method = any_method
        self.json_type: Any = Answer[answer] if answer is not None and wrap else answer


class _Path:
    """All operations of one path."""

    def __init__(self, route: Route) -> None:
        self.entry = route.entry
        self.family = route.family
        self.methods: dict[str, Route] = {}
        names = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.path)
        self.pattern = re.compile(names + r"\Z")

    def find(self, method: str) -> Route | None:
        """The operation of a method; GET answers for HEAD, and where it says so for any."""
        get = self.methods.get("GET")
        return self.methods.get(method) or (get if get and (method == "HEAD" or get.any_method) else None)

    @property
    def allow(self) -> tuple[str, ...]:
        methods = {*self.methods, "OPTIONS"} | ({"HEAD"} if "GET" in self.methods else set())
        return tuple(sorted(methods))


_first_json: Final = json.JSONDecoder()
_encode: Final = msgspec.json.Encoder().encode


class App:
    """The ASGI application over a table of routes."""

    def __init__(self, routes: tuple[Route, ...], auth: Auth, stores: Stores, max_upload: int) -> None:
        """`max_upload` is in bytes of the uploaded file."""
        self.max_upload = max_upload
        self.routes = routes
        self.auth = auth
        self.stores = stores
        self._exact: dict[str, _Path] = {}
        self._patterns: list[_Path] = []
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        path = self._exact.get(route.path)
        if path is None:
            path = self._exact[route.path] = _Path(route)
            if "{" in route.path:
                self._patterns.append(path)
        path.methods[route.method] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive, _request_id(scope), self)
        token = request_id.set(request.id)
        try:
            await self._answer(request, send)
        finally:
            request_id.reset(token)

    async def _answer(self, request: Request, send: Send) -> None:
        started = False

        async def counted(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        path = self._find(request)
        try:
            await self._run(request, path, counted)
        except TorzError as error:
            if started:
                raise
            await _send(send, request, self._failure(request, path, error))
        except HungUp:
            raise
        except Exception as exc:
            # The last line of defence: whatever it was, the client gets an envelope and the log gets the trace.
            log.error("%s %s failed: %s", request.method, request.path, "".join(traceback.format_exception(exc)))
            if started:
                raise
            await _send(send, request, self._failure(request, path, TorzError("internal server error")))

    async def _run(self, request: Request, path: _Path | None, send: Send) -> None:
        if path is None:
            raise RouteNotFound.saying("not found", hint="See /docs for the routes there are.")
        if request.method == "OPTIONS":
            await _send(send, request, _preflight(path))
            return
        if path.entry is Entry.STORE:
            await self._let_in(request)
        route = path.find(request.method)
        if route is None:
            raise MethodNotAllowed(allow=path.allow)
        if route.streams:
            await route.handler(request, send)
            return
        given = await route.handler(request, *await _arguments(route, request))
        if not isinstance(given, Reply):
            body = _encode(Answer(given) if route.wrap else given) + b"\n"
            given = Reply(body, status=route.status, media_type="application/json")
        await _send(send, request, given)

    async def _let_in(self, request: Request) -> None:
        request.answer_headers["X-StremThru-Store-Name"] = request.headers.get("x-stremthru-store-name", "")
        try:
            request.access = await self.auth.access(request.headers)
        except TorzError as error:
            if any(item.domain == "store" for item in error.items):
                del request.answer_headers["X-StremThru-Store-Name"]
            raise
        request.answer_headers["X-StremThru-Store-Name"] = request.access.store

    def _find(self, request: Request) -> _Path | None:
        path = request.path
        if "//" in path or "/./" in path:
            path = re.sub(r"/(\./)*(?=/)|(?<=/)(\./)+", "", path)
        found = self._exact.get(path)
        if found is not None and "{" not in path:
            return found
        raw = re.sub(r"/{2,}", "/", request.scope.get("raw_path", path.encode()).partition(b"?")[0].decode("latin-1"))
        for candidate in self._patterns:
            if match := candidate.pattern.match(raw):
                request.params = {name: unquote(value) for name, value in match.groupdict().items()}
                return candidate
        return None

    def _failure(self, request: Request, path: _Path | None, error: TorzError) -> Reply:
        store = request.access.store if request.access else request.headers.get("x-stremthru-store-name", "")
        family = path.family if path else family_of(request.path)
        if family is Family.TORZ:
            body = errors.encode(error, request.id)
        else:
            known = store if store in self.stores.names else ""
            body = errors.encode_legacy(error, request.id, request.method, request.path, known)
        headers = errors.headers_of(error, store)
        return Reply(body, status=errors.row_of(error).status, media_type="application/json", headers=headers)


def family_of(path: str) -> Family:
    """The new envelope is the torz endpoints' own."""
    return Family.TORZ if path.startswith("/v0/store/torz") else Family.LEGACY


async def _arguments(route: Route, request: Request) -> list[Any]:
    arguments: list[Any] = []
    if route.query:
        arguments.append(_convert(request.query, route.query))
    if route.body:
        arguments.append(await _decode_body(route, request))
    return arguments


async def _decode_body(route: Route, request: Request) -> Any:
    """The body as the route's struct, or, of a multipart upload, the bytes of its one file."""
    media_type = request.headers.get("content-type", "")
    if route.file and "multipart/form-data" in media_type:
        from torz.http.bodies import read_upload  # as above

        return await read_upload(request, route.file, request.app.max_upload, request.headers)
    if "application/json" not in media_type:
        general = "Unsupported Media Type"
        hint = "Send JSON with Content-Type: application/json" + (" or a multipart form." if route.file else ".")
        raise (MediaTypeUnsupported.saying(general, hint=hint) if route.file else MediaTypeUnsupported(hint=hint))
    body = await request.body(_MAX_JSON)
    return decode_json(route, body)


def decode_json(route: Route, body: bytes) -> Any:
    """The first JSON value of a body, its member names in any case: that is how the contract reads them."""
    if not body.strip():
        # The one route family that says it differently.
        raise BadRequest.saying("invalid payload") if route.path == "/v0/store/torz" else BadRequest("missing body")
    try:
        value, _ = _first_json.raw_decode(body.decode().lstrip())
        named = {name.lower(): member for name, member in value.items()} if isinstance(value, dict) else value
        return msgspec.convert(named, route.body)
    except msgspec.ValidationError as exc:
        raise BadRequest.saying("invalid payload", hint=f"{exc}.") from exc
    except (ValueError, RecursionError) as exc:
        raise BadRequest.saying("invalid payload", hint="The body is not JSON.") from exc


def _convert(values: dict[str, str], type: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.convert(values, type, strict=False)
    except msgspec.ValidationError as exc:
        place = re.search(r"`\$\.(\w+)`", str(exc))
        raise BadRequest.saying(f"invalid {place[1]}" if place else "invalid query", hint=f"{exc}.") from exc


def _preflight(path: _Path) -> Reply:
    return Reply(
        status=200,
        headers={
            "Allow": ", ".join(path.allow),
            "Access-Control-Allow-Methods": ", ".join(path.allow),
            "Access-Control-Allow-Headers": "*, Authorization, Proxy-Authorization, Content-Type, Range, Request-ID, "
            "X-StremThru-Authorization, X-StremThru-Store-Authorization, X-StremThru-Store-Name",
            "Access-Control-Max-Age": "86400",
        },
    )


async def _send(send: Send, request: Request, reply: Reply) -> None:
    body = reply.body
    await send_start(send, request, reply.status, {**reply.headers, "Content-Length": str(len(body))})
    await send({"type": "http.response.body", "body": body})


async def send_start(send: Send, request: Request, status: int, headers: Mapping[str, str]) -> None:
    """Send the status and headers, those that every answer has included."""
    sent = [(b"request-id", request.id.encode("latin-1"))]
    sent += [(name.encode(), value.encode("latin-1", "replace")) for name, value in request.answer_headers.items()]
    sent += [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*")]
    sent += [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": sent})


def _headers(scope: Scope) -> dict[str, str]:
    """Header names in lower case; of a repeated one the first counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"request-id" and value:
            given: str = value.decode("latin-1")[:200]
            return given
    bits = secrets.randbits(100)
    return "".join(_ID_ALPHABET[bits >> shift & 31] for shift in range(0, 100, 5))


def _parse_query(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as exc:
        raise BadRequest.saying("invalid query", hint="There are too many parameters.") from exc
