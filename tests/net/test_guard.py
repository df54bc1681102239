"""Users' URLs: what is fetched, what is refused, and that no second look slips past."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from torz.domain.errors import FetchRefused
from torz.net.guard import Fetcher, is_public

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def web(*answers: bytes, hang: bool = False) -> AsyncIterator[int]:
    """A server that gives these answers, one a connection, the last one for ever."""
    left = list(answers)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        if not hang:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def hint_of(url: str, allow: tuple[str, ...] = ("127.0.0.0/8",), timeout: float = 5) -> str:
    with pytest.raises(FetchRefused) as refused:
        await Fetcher(allow, timeout).get(url, 100)
    assert refused.value.items[0].message == "unable to fetch torrent file"
    return refused.value.hint


async def test_an_allowed_address_is_fetched_whatever_its_status() -> None:
    async with web(answer(b"torrent", "404 Not Found")) as port:
        assert await Fetcher(("127.0.0.1",), 5).get(f"http://127.0.0.1:{port}/x", 100) == b"torrent"
        assert await Fetcher(("localhost",), 5).get(f"http://localhost:{port}/x", 100) == b"torrent"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1",
             "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fc00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1"],
)  # fmt: skip
async def test_a_private_address_is_refused_in_every_spelling(host: str) -> None:
    async with web(answer(b"secret")) as port:
        hint = await hint_of(f"http://{host}:{port}/", allow=())
        assert any(word in hint for word in ("private", "resolved", "number"))


async def test_a_redirect_is_looked_at_like_the_first_address() -> None:
    away = answer(b"", "302 Found", "Location: http://10.1.2.3/secret")
    async with web(away) as port:
        assert "private" in await hint_of(f"http://127.0.0.1:{port}/", allow=("127.0.0.1",))
    async with web(answer(b"", "302 Found", "Location: file:///etc/passwd")) as port:
        assert "http" in await hint_of(f"http://127.0.0.1:{port}/")
    async with web(answer(b"", "302 Found", "Location: /again")) as port:
        assert "redirects more" in await hint_of(f"http://127.0.0.1:{port}/")


async def test_a_redirect_may_lead_to_a_magnet_or_another_page() -> None:
    async with web(answer(b"", "301 Moved", "Location: magnet:?xt=urn:btih:" + "a" * 40)) as port:
        assert await Fetcher(("127.0.0.1",), 5).get(f"http://127.0.0.1:{port}/", 9) == "magnet:?xt=urn:btih:" + "a" * 40
    async with web(answer(b"", "307 Moved", "Location: /there"), answer(b"ok")) as port:
        assert await Fetcher(("127.0.0.1",), 5).get(f"http://127.0.0.1:{port}/", 9) == b"ok"


async def test_size_and_time_are_bounded() -> None:
    async with web(answer(b"x" * 101)) as port:
        assert "larger" in await hint_of(f"http://127.0.0.1:{port}/")
    async with web(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200) as port:
        assert "larger" in await hint_of(f"http://127.0.0.1:{port}/")
    async with web(answer(b"")) as port:
        assert "nothing" in await hint_of(f"http://127.0.0.1:{port}/")
    async with web(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx", hang=True) as port:
        assert "seconds" in await hint_of(f"http://127.0.0.1:{port}/", timeout=0.3)


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http:///x", "a:b", "http://[::1", "gopher://x"]
)
async def test_other_addresses_are_refused_with_a_sentence(url: str) -> None:
    assert (await hint_of(url)).endswith(".")


async def test_what_answers_in_no_way_a_web_server_does_is_refused() -> None:
    async with web(b"SSH-2.0-OpenSSH\r\n") as port:
        assert "web server" in await hint_of(f"http://127.0.0.1:{port}/")
    async with web(b"") as port:
        assert await hint_of(f"http://127.0.0.1:{port}/")
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert "connection" in await hint_of(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
