"""OpenAPI 3.1 out of the same table and types that validate, so that it cannot drift from them."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from torz import __version__
from torz.http.torz import DIRECT_LINKS
from torz.http.typed import Entry, Family, Route
from torz.wire.shapes import ErrorAnswer, LegacyErrorAnswer

Json = dict[str, Any]
_REF = "#/components/schemas/{name}"
_STATUSES = {
    "400": "Something in the request is wrong; the hint says what.",
    "401": "The credentials or the store's token are missing or wrong.",
    "404": "There is no such thing.",
    "405": "The path has no such method; `Allow` lists those it has.",
    "413": "The body is too large.",
    "415": "The media type is not taken.",
    "500": "The server failed; the request id leads to its log.",
    "503": "Not now; `Retry-After` says when.",
}


def document(routes: Iterable[Route]) -> bytes:
    """The whole document, encoded."""
    table = list(routes)
    types = [t for route in table for t in (route.json_type, route.body, route.query) if t is not None]
    _, schemas = msgspec.json.schema_components([*types, ErrorAnswer, LegacyErrorAnswer], ref_template=_REF)
    paths: dict[str, Json] = {}
    for route in table:
        for method in (route.method, *(("HEAD",) if route.method == "GET" else ())):
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Torz",
                "version": __version__,
                "summary": "One HTTP API over every place where a torrent can live.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {"schemas": schemas, "securitySchemes": _SECURITY},
            "security": [],
        }
    )


_SECURITY: Json = {
    "server": {
        "type": "apiKey",
        "in": "header",
        "name": "X-StremThru-Authorization",
        "description": "`Basic <base64 of user:password>` of a user of this server.",
    },
    "store": {
        "type": "apiKey",
        "in": "header",
        "name": "X-StremThru-Store-Authorization",
        "description": "`Bearer <token of the store>`.",
    },
    "storeName": {
        "type": "apiKey",
        "in": "header",
        "name": "X-StremThru-Store-Name",
        "description": "Which store the token is for.",
    },
}


def _operation(route: Route, method: str) -> Json:
    parameters = [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", route.path)]
    parameters += _query_parameters(route)
    operation: Json = {
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path)}".rstrip("_"),
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.body:
        operation["requestBody"] = {"required": True, "content": _bodies(route)}
    if route.entry is Entry.STORE:
        operation["security"] = [{"server": []}, {"storeName": [], "store": []}]
    return operation


def _tag(route: Route) -> str:
    if route.path.startswith("/v0/store/torz"):
        return "torz"
    return "store" if route.path.startswith("/v0/store") else "server"


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(route: Route) -> list[Json]:
    if route.query is None:
        return []
    schema = msgspec.json.schema(route.query)["$defs"][route.query.__name__]
    return [
        {"name": name, "in": "query", "required": False, "schema": member}
        for name, member in schema["properties"].items()
    ]


def _bodies(route: Route) -> Json:
    assert route.body
    content: Json = {"application/json": {"schema": {"$ref": _REF.format(name=route.body.__name__)}}}
    if route.file:
        part = {"type": "string", "contentMediaType": "application/x-bittorrent"}
        schema = {"type": "object", "required": [route.file], "properties": {route.file: part}}
        content["multipart/form-data"] = {"schema": schema}
    return content


def _responses(route: Route) -> Json:
    error = ErrorAnswer if route.family is Family.TORZ else LegacyErrorAnswer
    shape = {"application/json": {"schema": {"$ref": _REF.format(name=error.__name__)}}}
    answers: Json = {status: {"description": text, "content": shape} for status, text in _STATUSES.items()}
    success: Json = {"description": "Done."}
    if route.json_type is not None:
        (schema,), _ = msgspec.json.schema_components([route.json_type], ref_template=_REF)
        success["content"] = {"application/json": {"schema": schema}}
    if route.path.startswith(DIRECT_LINKS):
        success["content"] = {"*/*": {}}
        answers |= {"206": {"description": "The parts that `Range` asks for.", "content": {"*/*": {}}}}
        answers |= {"304": {"description": "Unchanged."}, "416": {"description": "The file ends before the range."}}
        answers |= {"410": {"description": "The link has expired or its torz was removed.", "content": shape}}
    return {str(route.status): success, **answers}
