from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.domain.errors import InvalidMagnet
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet, printable

V1 = "db42af2b6ae098558b98a14cd7874ef64162cac8"
V2 = "ab" * 32
HASHES = st.binary(min_size=20, max_size=20).filter(any).map(InfoHash)
HASHES_V2 = st.binary(min_size=32, max_size=32).filter(any).map(InfoHash)
NAMES = st.text(st.characters(codec="utf-8"), max_size=40).map(printable)
HOSTS = st.from_regex(r"[a-z]{1,8}\.example", fullmatch=True)
URLS = st.builds(
    "{}://{}/{}".format, st.sampled_from(["http", "https"]), HOSTS, st.from_regex(r"[!-\[\]-~é]{0,9}", fullmatch=True)
)
PEERS = st.builds("{}:{}".format, st.sampled_from(["10.0.0.1", "[::1]", "peer.example"]), st.integers(1, 65535))
MAGNETS = st.builds(
    Magnet,
    hash=HASHES,
    v2=st.none() | HASHES_V2,
    name=NAMES,
    trackers=st.lists(URLS, unique=True, max_size=4).map(tuple),
    web_seeds=st.lists(URLS, unique=True, max_size=4).map(tuple),
    peers=st.lists(PEERS, unique=True, max_size=4).map(tuple),
) | st.builds(Magnet, hash=HASHES_V2, name=NAMES)


def read(query: str) -> Magnet:
    return Magnet.parse(f"magnet:?xt=urn:btih:{V1}&{query}")


@given(MAGNETS)
def test_a_printed_magnet_reads_back_as_itself(magnet: Magnet) -> None:
    assert Magnet.parse(str(magnet)) == magnet
    assert Magnet.parse(magnet.public) == Magnet(magnet.hash.short, name=magnet.name)


@given(st.text() | st.text().map(lambda more: f"magnet:?xt=urn:btih:{V1}&{more}"))
def test_any_text_is_a_magnet_or_refused(text: str) -> None:
    with suppress(InvalidMagnet):
        assert Magnet.parse(str(Magnet.parse(text))) == Magnet.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"magnet:?xt=urn:btih:{V1}",
        f" \n magnet:?xt=urn:btih:{V1} \t",
        f"MAGNET:?XT=URN:BTIH:{V1.upper()}",
        "magnet:?xt=urn:btih:3NBK6K3K4CMFLC4YUFGNPB2O6ZAWFSWI",
        "magnet:?xt=urn:btih:3nbk6k3k4cmflc4yufgnpb2o6zawfswi",
        f"magnet:?xt=urn%3Abtih%3A{V1}",
        f"magnet:?&&xt.1=urn:btih:{V1}&xt=urn:sha1:x&=&&",
        f"magnet:?xt=urn:btih:{V1}&xt=urn:btih:{'1' * 40}",
        f"magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{'0' * 64}",
    ],
)
def test_every_form_of_a_magnet_is_the_same_magnet(text: str) -> None:
    assert Magnet.parse(text) == Magnet(InfoHash.parse(V1))


@pytest.mark.parametrize(
    "text",
    [
        "", "magnet:", "magnet:?", "magnet:?dn=x", f"magnet:xt=urn:btih:{V1}", f"xt=urn:btih:{V1}", V1, "http://a/?xt=1",
        "magnet:?xt=", f"magnet:?xt={V1}", f"magnet:?xt=urn:btih:{V1[1:]}", f"magnet:?xt=urn:btih:{'z' * 40}",
        f"magnet:?xt=urn:btih:{V2}", f"magnet:?xt=urn:btih:{'0' * 40}", f"magnet:?xt=urn:btih:{'A' * 32}",
        f"magnet:?xt=urn:sha1:{V1}&xt=urn:btih:{V1}", f"magnet:?xt=urn:btmh:{V2}", f"magnet:?xt=urn:btmh:1220{V1}",
        f"magnet:?xt=urn:btmh:1114{V1}", f"magnet:?xt=urn:btmh:1220{'0' * 64}", f"magnet:?xt=urn:btih: {V1}",
        f"magnet:?xt=urn:btih:{V1}&dn=\ud800", f"magnet:?xt=urn:btih:{V1}&dn={'x' * 65536}",
        f"magnet:?xt=urn:btih:{V1}&dn={'é' * 15000}",
    ],
)  # fmt: skip
def test_what_is_no_magnet_is_refused(text: str) -> None:
    with pytest.raises(InvalidMagnet) as refused:
        Magnet.parse(text)
    assert refused.value.message == "not a magnet"
    assert refused.value.hint


def test_a_v2_magnet_names_the_long_hash_and_the_wire_its_first_half() -> None:
    magnet = Magnet.parse(f"magnet:?xt=urn:btmh:1220{V2}")
    assert magnet == Magnet(InfoHash.parse(V2))
    assert magnet.public == f"magnet:?xt=urn:btih:{V2[:40]}"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_hybrid_is_known_by_its_v1_hash(order: tuple[int, int]) -> None:
    xts = [f"xt=urn:btih:{V1}", f"xt=urn:btmh:1220{V2}"]
    magnet = Magnet.parse("magnet:?" + "&".join(xts[i] for i in order))
    assert magnet == Magnet(InfoHash.parse(V1), InfoHash.parse(V2))
    assert magnet.public == f"magnet:?xt=urn:btih:{V1}"


def test_the_wire_form_has_hash_and_name_alone() -> None:
    magnet = read("dn=A+B%26C%2f..%2F%F0%9F%8D%BF&tr=http://t.example/passkey&ws=http://w.example/&x.pe=10.0.0.1:1")
    assert magnet.name == "A B&C/../🍿"
    assert magnet.public == f"magnet:?xt=urn:btih:{V1}&dn=A%20B%26C%2F..%2F%F0%9F%8D%BF"


def test_a_name_cannot_forge_the_display() -> None:
    assert read("dn=a%00b%1B[31m%E2%80%AEc%0Ad%FF").name == "ab_[31mc_d\ufffd"
    assert read("dn=&dn=second").name == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://t.example/announce?a=b&c", "https://t.example", "udp://10.0.0.1:1337", "wss://t.example/x", "WS://[::1]:1/",
        "http://ü.example/é", "http://user:pass@t.example/",
    ],
)  # fmt: skip
def test_trackers_of_known_schemes_are_kept(url: str) -> None:
    assert read(f"tr={quote(url, safe='')}&tr.7={quote(url, safe='')}").trackers == (url,)


@pytest.mark.parametrize(
    "url",
    [
        "", "t.example", "file:///etc/passwd", "ftp://t.example/", "http:///announce", "http://@/", "http://:80/", "udp://",
        "http://t.example:99999/", "http://t.example:0/", "http://t.example:x/", "http://[::1/", "http://[x]/",
        "javascript:a", "http://a b/", "http://a/\nb", "http://a\\@b/", "http://a/\u202e", "dht://" + V1,
        "http://a/" + "x" * 2040,
    ],
)  # fmt: skip
def test_other_trackers_and_web_seeds_are_dropped(url: str) -> None:
    text = quote(url, safe="")
    assert read(f"tr={text}&ws={text}") == Magnet(InfoHash.parse(V1))


def test_web_seeds_are_fetched_over_http_alone() -> None:
    assert read("ws=udp://a.example:1/&ws=https://a.example/&ws=wss://a.example/").web_seeds == ("https://a.example/",)


@pytest.mark.parametrize("peer", ["10.0.0.1:6881", "[::1]:1", "[2001:db8::1]:65535", "peer.example:80"])
def test_peers_are_kept(peer: str) -> None:
    assert read(f"x.pe={peer}&X.PE={quote(peer, safe='')}").peers == (peer,)


@pytest.mark.parametrize(
    "peer",
    ["", "x", ":1", "a:0", "a:65536", "a:b", "::1:1", "[::1]", "[z]:1", "[1.2.3.4]:1", "a b:1", "a:1/", "a:٣", "é:1"],
)
def test_what_is_no_peer_is_dropped(peer: str) -> None:
    assert read(f"x.pe={quote(peer, safe='')}").peers == ()


def test_hints_are_kept_up_to_their_limits() -> None:
    magnet = read(
        "&".join(f"tr=udp://t{i}.example:1&ws=http://w{i}.example/&x.pe=10.0.0.1:{i + 1}" for i in range(150))
    )
    assert len(magnet.trackers) == 100
    assert magnet.trackers[99] == "udp://t99.example:1"
    assert len(magnet.web_seeds) == 20
    assert len(magnet.peers) == 50
