"""The API's own description: the OpenAPI document, and a page to read."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from html import escape
from typing import Any

import msgspec

from torz import __version__
from torz.http import openapi
from torz.http.typed import Entry, Reply, Request, Route

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--go:#2a7d46}
body{font:16px/1.55 system-ui,sans-serif;max-width:58rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-bottom:1px solid var(--line)}
code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
details{border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;padding:.5rem .8rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:4.5rem;color:var(--go)}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{text-align:left;padding:.25rem .5rem;vertical-align:top}
tr+tr td{border-top:1px solid var(--line)}.note{opacity:.75}
"""
_CSP = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
Json = dict[str, Any]


class DocsHandlers:
    """Both are made once, from the table of routes, when `describe` is called."""

    def __init__(self) -> None:
        self._document = b""
        self._page = b""

    def describe(self, routes: Sequence[Route]) -> None:
        self._document = openapi.document(routes)
        self._page = "".join(_page(msgspec.json.decode(self._document), routes)).encode()

    async def document(self, request: Request) -> Reply:
        return Reply(self._document, media_type="application/json")

    async def page(self, request: Request) -> Reply:
        return Reply(
            self._page,
            media_type="text/html; charset=utf-8",
            headers={"Content-Security-Policy": _CSP, "X-Content-Type-Options": "nosniff"},
        )

    async def front(self, request: Request) -> Reply:
        return Reply(status=307, headers={"Location": "/docs"})


def _page(document: Json, routes: Sequence[Route]) -> Iterator[str]:
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Torz API {__version__}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>Torz API {__version__}</h1>'
    yield "<p>One HTTP API over every place where a torrent can live. Machines read <a href='/openapi.json'>"
    yield "<code>/openapi.json</code></a>. A success is <code>{&quot;data&quot;: …}</code>, a failure "
    yield "<code>{&quot;error&quot;: …}</code>.</p>"
    yield "<p>Store routes take <code>X-StremThru-Authorization: Basic …</code> of a user of this server, or "
    yield "<code>X-StremThru-Store-Name</code> with <code>X-StremThru-Store-Authorization: Bearer …</code>.</p>"
    title = ""
    for route in routes:
        operation = document["paths"][route.path][route.method.lower()]
        if operation["tags"][0] != title:
            title = operation["tags"][0]
            yield f"<h2>{escape(title)}</h2>"
        yield from _operation(route, operation)
    yield "<h2>shapes</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _shape(name, schema)
    yield "</html>"


def _operation(route: Route, operation: Json) -> Iterator[str]:
    access = "" if route.entry is Entry.STORE else " <span class=note>(open)</span>"
    yield f"<details><summary><b>{route.method}</b> <code>{escape(route.path)}</code> – "
    yield f"{escape(route.summary)}{access}</summary>"
    if operation["parameters"]:
        yield "<table><tr><th>parameter<th>in<th>meaning"
        for parameter in operation["parameters"]:
            meaning = parameter["schema"].get("description", "")
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}<td>{escape(meaning)}"
        yield "</table>"
    if "requestBody" in operation:
        for media_type, content in operation["requestBody"]["content"].items():
            yield f"<p>Body <code>{media_type}</code>: {_link(content['schema'])}</p>"
    yield "<table><tr><th>answer<th>meaning"
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/json")
        yield f"<tr><td>{status}<td>{escape(answer['description'])} {_link(content['schema']) if content else ''}"
    yield "</table></details>"


def _shape(name: str, schema: Json) -> Iterator[str]:
    yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
    if "description" in schema:
        yield f"<p>{escape(schema['description'])}</p>"
    if "enum" in schema:
        yield "<p>" + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"]) + "</p>"
    if "properties" in schema:
        yield "<table><tr><th>member<th>type<th>meaning"
        for member, of in schema["properties"].items():
            must = "" if member in schema.get("required", ()) else " <span class=note>may be absent</span>"
            yield f"<tr><td><code>{escape(member)}</code><td>{_link(of)}<td>{escape(of.get('description', ''))}{must}"
        yield "</table>"
    yield "</details>"


def _link(schema: Json) -> str:
    """What a schema is, in a few words, with links to the named ones."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}"><code>{name}</code></a>'
    if "items" in schema:
        return "list of " + _link(schema["items"])
    if "anyOf" in schema:
        return " or ".join(_link(one) for one in schema["anyOf"])
    if "properties" in schema:
        return "{" + ", ".join(f"{escape(name)}: {_link(of)}" for name, of in schema["properties"].items()) + "}"
    return escape(str(schema.get("type", "anything")))
