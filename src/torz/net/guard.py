"""Fetching a URL that a user gave: no private address behind it, checked where the connection is made."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from torz.domain.errors import FetchRefused

REDIRECTS = 10
_UNABLE = "unable to fetch torrent file"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Allowed:
    """The private networks and hosts that the operator lets a user's URL reach."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._hosts = frozenset(e.lower() for e in entries if not _is_network(e))
        self._networks = [ipaddress.ip_network(e, strict=False) for e in entries if _is_network(e)]

    def host(self, name: str) -> bool:
        return name.lower() in self._hosts

    def address(self, text: str) -> bool:
        """Public, or listed."""
        address = ipaddress.ip_address(text.partition("%")[0])
        return is_public(address) or any(address in net for net in self._networks if net.version == address.version)


class Fetcher:
    """GET for users' URLs: http and https only, bounded in time, size and redirects."""

    def __init__(self, allow: Sequence[str], timeout: float) -> None:
        self._allowed = Allowed(allow)
        self._timeout = timeout

    async def get(self, url: str, max_size: int) -> bytes | str:
        """The body, or a magnet that the URL leads to.

        Raises BadRequest at `link`, with a hint that says why, for anything that goes wrong.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._get(url, max_size)
        except TimeoutError as exc:
            raise _refused(f"The address did not answer in full within {self._timeout:g} seconds.") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _refused(_why(exc)) from exc

    async def _get(self, url: str, max_size: int) -> bytes | str:
        connector = aiohttp.TCPConnector(resolver=_GuardedResolver(self._allowed), force_close=True)
        timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=10)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ) as session:
            for _ in range(REDIRECTS + 1):
                target = self._check(url)
                async with session.get(
                    target, allow_redirects=False, headers={"User-Agent": "torz", "Accept": "*/*"}
                ) as answer:
                    location = answer.headers.get("Location")
                    if answer.status not in (301, 302, 303, 307, 308) or not location:
                        return await _read(answer, max_size)
                    if location[:7].lower() == "magnet:":
                        return location
                    url = str(target.join(URL(location)))
            raise _refused(f"The address redirects more than {REDIRECTS} times.")

    def _check(self, url: str) -> URL:
        """Refuse what must not be asked. Addresses that are names are checked again when they are resolved."""
        target = URL(url)
        if target.scheme not in ("http", "https") or not target.host:
            raise _refused("Only http and https addresses are fetched.")
        if _is_odd_number(target.host):
            raise _refused("The host is a number that is no address.")
        if _is_address(target.host) and not (self._allowed.host(target.host) or self._allowed.address(target.host)):
            raise _refused(_PRIVATE)
        return target


_PRIVATE = "The address is private. An operator who wants it fetched lists it in TORZ_FETCH_ALLOW."


class _GuardedResolver(AbstractResolver):
    """Resolves names and keeps only what may be connected to, so that no second look-up can slip past."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        kept = [one for one in found if self._allowed.host(host) or self._allowed.address(one["host"])]
        if not kept:
            raise _refused(_PRIVATE)
        return kept

    async def close(self) -> None:
        await self._inner.close()


def is_public(address: _Address) -> bool:
    """Whether it belongs to the open internet, also when it is wrapped in IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner and not is_public(inner):
            return False
        if inner:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved


async def _read(answer: aiohttp.ClientResponse, max_size: int) -> bytes:
    if (answer.content_length or 0) > max_size:
        raise _refused(f"The file is larger than {max_size} bytes.")
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > max_size:
            raise _refused(f"The file is larger than {max_size} bytes.")
    if not body:
        raise _refused("The address answered with nothing.")
    return bytes(body)


def _refused(hint: str) -> FetchRefused:
    return FetchRefused.at("link", "body", _UNABLE, hint=hint)


def _why(exc: Exception) -> str:
    """A sentence without addresses: what is behind a name is not the caller's to learn."""
    if isinstance(exc, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return "The host name cannot be resolved."
    if isinstance(exc, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "The address has no valid certificate."
    if isinstance(exc, aiohttp.ClientConnectorError | ConnectionError):
        return "Nothing accepts a connection there."
    if isinstance(exc, ValueError):
        return "That is not an address that can be fetched."
    return "The address did not answer as a web server does."


def _is_odd_number(host: str) -> bool:
    """Such as 127.1 or 2130706433, which some resolvers take for an address and no URL needs."""
    return host.replace(".", "").isdigit() and not _is_address(host)


def _is_address(host: str) -> bool:
    return _parses(ipaddress.ip_address, host.partition("%")[0])


def _is_network(entry: str) -> bool:
    return _parses(ipaddress.ip_network, entry)


def _parses(parse: Callable[..., Any], text: str) -> bool:
    try:
        parse(text, False) if parse is ipaddress.ip_network else parse(text)
    except ValueError:
        return False
    return True
