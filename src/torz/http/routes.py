"""Every route on one screen."""

from torz.http.docs import DocsHandlers
from torz.http.health import HealthHandlers
from torz.http.links import LinkHandlers
from torz.http.torz import DIRECT_LINKS, CheckQuery, LegacyCheckQuery, Paging, TorzHandlers
from torz.http.typed import Entry, Route
from torz.http.videos import send_video
from torz.wire.shapes import (
    AddedTorz,
    AddLink,
    AddMagnet,
    CheckAnswer,
    Debug,
    GenerateLink,
    Health,
    Link,
    Removed,
    TorzPage,
    TorzShape,
    UserShape,
)

OPEN = {
    "/v0/health": "says only that the server is there",
    "/v0/health/__debug__": "tells strangers the time and the version only",
    "/v0/store/_/static/{name}": "status videos are for everybody",
    DIRECT_LINKS + "{token}/{name}": "the signed link is the credential",
    DIRECT_LINKS + "{token}": "the signed link is the credential",
    "/openapi.json": "describes the API and no data",
    "/docs": "describes the API and no data",
    "/": "leads to the description",
}
"""The routes that need no access, each with its reason."""


def routes(
    torz: TorzHandlers, legacy: TorzHandlers, links: LinkHandlers, health: HealthHandlers, docs: DocsHandlers
) -> tuple[Route, ...]:
    """The table. Order counts nowhere: a path without parameters goes before one with them."""
    table = (
        Route("POST", "/v0/store/torz", torz.add, "Add a torrent", body=AddLink, file="file", answer=AddedTorz, status=201 ),
        Route("GET", "/v0/store/torz", torz.list, "List the account's torz", query=Paging, answer=TorzPage),
        Route("GET", "/v0/store/torz/check", torz.check, "Check which hashes are cached", query=CheckQuery, answer=CheckAnswer, streams=True),
        Route("GET", "/v0/store/torz/{id}", torz.get, "Get one torz with its files", answer=TorzShape),
        Route("DELETE", "/v0/store/torz/{id}", torz.remove, "Remove a torz", answer=Removed),
        Route("POST", "/v0/store/torz/link/generate", torz.link, "Turn a file's link into a direct link", body=GenerateLink, answer=Link),
        Route("GET", "/v0/store/user", torz.user, "Whose account it is", answer=UserShape),
        Route("POST", "/v0/store/magnets", legacy.add, "Add a torrent (older generation)", body=AddMagnet, file="torrent", answer=AddedTorz, status=201),
        Route("GET", "/v0/store/magnets", legacy.list, "List (older generation)", query=Paging, answer=TorzPage),
        Route("GET", "/v0/store/magnets/check", legacy.check, "Check (older generation)", query=LegacyCheckQuery, answer=CheckAnswer, streams=True),
        Route("POST", "/v0/store/magnets/check", legacy.report, "Report from a peer server: always refused", answer=None),
        Route("GET", "/v0/store/magnets/{id}", legacy.get, "Get (older generation)", answer=TorzShape),
        Route("DELETE", "/v0/store/magnets/{id}", legacy.remove, "Remove (older generation)", answer=Removed),
        Route("POST", "/v0/store/link/generate", legacy.link, "Direct link (older generation)", body=GenerateLink, answer=Link),
        Route("GET", DIRECT_LINKS + "{token}/{name}", links.fetch, "Fetch a file by its direct link", streams=True ),
        Route("GET", DIRECT_LINKS + "{token}", links.fetch, "Fetch a file by its direct link, without a name", streams=True),
        Route("GET", "/v0/store/_/static/{name}", send_video, "A short video that shows a status", wrap=False),
        Route("GET", "/v0/health", health.health, "Whether the server is there", answer=Health, any_method=True ),
        Route("GET", "/v0/health/__debug__", health.debug, "Time and version; for users also account, address and engine", answer=Debug, any_method=True),
        Route("GET", "/openapi.json", docs.document, "This API as OpenAPI 3.1", wrap=False),
        Route("GET", "/docs", docs.page, "This API as a page", wrap=False),
        Route("GET", "/", docs.front, "Leads to the page", wrap=False),
    )
    for route in table:
        if route.path in OPEN:
            route.entry = Entry.OPEN
    return table
