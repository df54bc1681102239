"""Where links begin and who asks, behind proxies that are trusted and behind others."""

import ipaddress

import pytest

from torz.http.origin import Origin
from torz.http.typed import Request

PROXY = "10.0.0.9"


def request(peer: str = PROXY, **headers: str) -> Request:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "scheme": "http",
        "client": (peer, 1),
        "server": ("127.0.0.1", 8679),
        "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()],
    }
    return Request(scope, None, "", None)  # type: ignore[arg-type]


def origin(base: str = "") -> Origin:
    return Origin(base, (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")))


FORWARDED = {"host": "inner:1", "x_forwarded_proto": "https", "x_forwarded_host": "torz.example"}


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        (PROXY, FORWARDED, "https://torz.example"),
        ("203.0.113.5", FORWARDED, "http://inner:1"),
        (PROXY, {"host": "a", "forwarded": 'for=1.2.3.4;proto=https;host="b:443", for=10.0.0.1'}, "https://b:443"),
        (PROXY, {"host": "[::1]:8679"}, "http://[::1]:8679"),
        (PROXY, {}, "http://127.0.0.1:8679"),
        (PROXY, {"host": 'evil"><script>'}, "http://127.0.0.1:8679"),
        (PROXY, {"host": "a", "x_forwarded_proto": "javascript"}, "http://127.0.0.1:8679"),
    ],
)
def test_links_begin_where_the_client_came_in(peer: str, headers: dict[str, str], expected: str) -> None:
    assert origin().of(request(peer, **headers)) == expected


def test_the_setting_goes_before_every_header() -> None:
    assert origin("https://torz.example.org/").of(request(**FORWARDED)) == "https://torz.example.org"


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        (PROXY, {"x_forwarded_for": "198.51.100.7"}, "198.51.100.7"),
        (PROXY, {"x_forwarded_for": "6.6.6.6, 198.51.100.7, 10.0.0.3"}, "198.51.100.7"),
        (PROXY, {"x_forwarded_for": "198.51.100.7:4711"}, "198.51.100.7"),
        (PROXY, {"x_forwarded_for": "2001:db8::7"}, "2001:db8::7"),
        (PROXY, {"forwarded": 'for="[2001:db8::7]:4711"'}, "2001:db8::7"),
        ("203.0.113.5", {"x_forwarded_for": "198.51.100.7"}, "203.0.113.5"),
        (PROXY, {}, PROXY),
    ],
)
def test_the_client_is_the_last_one_that_no_trusted_proxy_added(
    peer: str, headers: dict[str, str], expected: str
) -> None:
    assert origin().client(request(peer, **headers)) == expected
