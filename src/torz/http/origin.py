"""Where a request came from and how its sender reaches us, believing only the proxies that are trusted."""

import ipaddress
import re
from collections.abc import Sequence

from torz.config import Network
from torz.http.typed import Request

_HOST = re.compile(r"[A-Za-z0-9._\-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


class Origin:
    def __init__(self, base_url: str, trusted: Sequence[Network]) -> None:
        self._base_url = base_url.rstrip("/")
        self._trusted = trusted

    def of(self, request: Request) -> str:
        """Scheme and host for absolute links, without a slash at the end."""
        if self._base_url:
            return self._base_url
        scheme, host = request.scope["scheme"], request.headers.get("host", "")
        if self._is_trusted(peer(request)):
            said = _forwarded(request)
            first = said[0] if said else {}
            scheme = first.get("proto") or _first(request, "x-forwarded-proto") or scheme
            host = first.get("host") or _first(request, "x-forwarded-host") or host
        if scheme not in ("http", "https") or not _HOST.fullmatch(host):
            address, port = request.scope.get("server") or ("127.0.0.1", 80)
            scheme, host = "http", f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return f"{scheme}://{host}"

    def client(self, request: Request) -> str:
        """The address of whoever asks: the last one that no trusted proxy added."""
        address = peer(request)
        chain = [said["for"] for said in _forwarded(request) if "for" in said]
        older = request.headers.get("x-forwarded-for", "").split(",")
        chain = chain or [part.strip() for part in older if part.strip()]
        while self._is_trusted(address) and chain:
            address = _without_port(chain.pop())
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted if network.version == parsed.version)


def peer(request: Request) -> str:
    """The other end of the connection."""
    client = request.scope.get("client")
    return client[0] if client else ""


def _first(request: Request, header: str) -> str:
    return request.headers.get(header, "").partition(",")[0].strip()


def _forwarded(request: Request) -> list[dict[str, str]]:
    """The `Forwarded` header (RFC 7239), what the first proxy said first."""
    return [
        {
            name.strip().lower(): value.strip().strip('"')
            for name, _, value in (pair.partition("=") for pair in hop.split(";"))
        }
        for hop in request.headers.get("forwarded", "").split(",")
        if hop.strip()
    ]


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
