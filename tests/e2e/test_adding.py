"""Every way in, over the network: magnets, hashes, files, URLs, and what is refused at the door."""

import base64
import email
import http.client
import json
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from live import Live, until
from swarm import LOCAL, bare_magnet, make_torrent, noise, seeding
from torz.domain.bencode import encode

FILES = {"a/film.mkv": noise(150_000), "b.srt": b"1\n00:00 --> 00:01\nhey\n", "empty.nfo": b""}


@contextmanager
def web(pages: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    """A web server on loopback with these pages: status, headers, body."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = pages.get(self.path.partition("?")[0], (404, {}, b"<html>not here</html>"))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((LOCAL, 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="web")
    thread.start()
    try:
        yield f"http://{LOCAL}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with Live(tmp_path_factory.mktemp("adding") / "data", TORZ_FETCH_ALLOW=LOCAL) as live:
        yield live


def test_every_way_to_name_a_torrent_leads_to_the_same_torz(server: Live, tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", FILES, name="Pack")
    hash = str(torrent.hash)
    pages = {
        "/x.torrent": (200, {}, torrent.raw),
        "/moved": (302, {"Location": "/x.torrent"}, b""),
        "/magnet": (301, {"Location": f"magnet:?xt=urn:btih:{hash}&dn=Pack"}, b""),
    }
    with seeding(torrent, tmp_path / "seed") as seeds, web(pages) as url:
        magnet = str(bare_magnet(torrent, *seeds))
        id = server.upload(torrent.raw)["id"]
        for link in (
            magnet,
            magnet.lower(),
            hash,
            hash.upper(),
            base64.b32encode(torrent.hash.raw).decode(),
            url + "/x.torrent",
            url + "/moved",
            url + "/magnet",
        ):
            assert server.add(link) == id, link
        for body in ({"magnet": magnet}, {"magnet": hash}, {"torrent": url + "/x.torrent"}):
            assert server.data_of("POST", "/v0/store/magnets", body)["id"] == id
        done = server.status(id, "downloaded")
        assert {f["path"]: server.read(server.link(f)) for f in done["files"]} == {"/" + p: d for p, d in FILES.items()}
        assert [f["index"] for f in done["files"]] == [0, 1, 2]
        assert server.data_of("GET", f"/v0/store/magnets/{id}") == done
    for link in (url + "/x.torrent", url + "/nowhere"):
        status, error = server.error_of("POST", "/v0/store/torz", {"link": link})
        assert (status, error["errors"][0]["message"]) == (400, "unable to fetch torrent file")


def test_a_page_that_is_no_torrent_and_one_that_is_too_large_are_refused(server: Live) -> None:
    before = server.data_of("GET", "/v0/store/torz")["total_items"]
    pages = {
        "/big": (200, {}, b"d" + b"x" * (1 << 20)),
        "/file": (302, {"Location": "file:///etc/passwd"}, b""),
        "/inside": (302, {"Location": "http://10.0.0.1/x"}, b""),
        "/loop": (302, {"Location": "/loop"}, b""),
        "/nothing": (200, {}, b""),
    }
    with web(pages) as url:
        status, error = server.error_of("POST", "/v0/store/torz", {"link": url + "/html"})
        assert (status, error["message"], error["errors"]) == (400, "invalid torrent file", [])
        for path in pages:
            status, error = server.error_of("POST", "/v0/store/torz", {"link": url + path})
            assert (status, error["errors"][0]["message"]) == (400, "unable to fetch torrent file"), path
            assert error["hint"]
    assert server.data_of("GET", "/v0/store/torz")["total_items"] == before


def test_an_upload_that_is_too_large_is_refused_however_it_is_sent(server: Live) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    body = head + b"x" * (2 << 20) + b"\r\n--b--\r\n"
    headers = {"X-StremThru-Authorization": "ann:ann-secret", "Content-Type": "multipart/form-data; boundary=b"}
    for chunked in (False, True):
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
        sent = iter([body[i : i + 65536] for i in range(0, len(body), 65536)]) if chunked else body
        with suppress(
            BrokenPipeError, ConnectionResetError
        ):  # it need not read what it refuses; it answers all the same
            connection.request("POST", "/v0/store/torz", body=sent, headers=headers, encode_chunked=chunked)
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["status_code"] == 413
        connection.close()
    assert server.data_of("GET", "/v0/health") == {"status": "ok"}


def test_a_private_torrent_is_told_to_those_alone_who_brought_it(server: Live, tmp_path: Path) -> None:
    content = noise(90_000, seed=5)
    pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
    with web(pages) as url:
        tracker = (url + "/announce",)
        torrent = make_torrent(tmp_path / "seed", content, name="Secret.mkv", private=True, trackers=tracker)
        with seeding(torrent, tmp_path / "seed") as seeds:
            peer = bytes([127, 0, 0, 1]) + seeds[0].port.to_bytes(2, "big")
            pages["/announce"] = (200, {}, encode({b"interval": 1800, b"peers": peer}))
            ann = server.upload(torrent.raw)
            assert (ann["private"], ann["files"][0]["name"]) == (True, "Secret.mkv")
            file = server.status(ann["id"], "downloaded")["files"][0]
    assert server.read(server.link(file)) == content
    check = f"/v0/store/torz/check?hash={torrent.hash}"
    assert server.data_of("GET", check)["items"][0]["status"] == "cached"
    assert server.data_of("GET", check, user="bob")["items"] == []
    guessed = server.add(str(torrent.hash), user="bob")
    seen = server.get(guessed, user="bob")
    assert (seen["status"], seen["name"], seen["size"], seen["files"]) == ("queued", "", -1, [])
    assert "private" not in seen
    assert "Secret" not in str(seen)
    assert server.error_of("POST", "/v0/store/torz/link/generate", {"link": file["link"]}, user="bob")[0] == 404
    bob = server.upload(torrent.raw, user="bob")  # the one who brings the file may know
    assert (bob["id"], bob["status"], bob["private"]) == (guessed, "downloaded", True)
    link = server.link(bob["files"][0], user="bob")
    server.data_of("DELETE", f"/v0/store/torz/{ann['id']}")
    assert server.read(link) == content
    server.data_of("DELETE", f"/v0/store/torz/{guessed}", user="bob")
    until(lambda: not (server.data / "torrents" / str(torrent.hash)).exists())
    again = server.add(str(torrent.hash))
    assert (server.get(again)["name"], server.get(again)["files"]) == ("", [])


def test_a_file_is_read_in_parts_from_several_places_while_it_arrives_and_after(server: Live, tmp_path: Path) -> None:
    content = noise(5 << 20, seed=9)
    size = len(content)
    torrent = make_torrent(tmp_path / "seed", content, name="Ein schöner Film.mkv", piece_length=65536)
    parts = [(0, 1000), (size - 1000, size), (size // 2, size // 2 + 300_000), (65_530, 65_545)]
    with seeding(torrent, tmp_path / "seed", upload_limit=2_500_000) as seeds:
        id = server.add(str(bare_magnet(torrent, *seeds)))
        link = server.link(server.files(id)[0])
        with ThreadPoolExecutor(len(parts)) as pool:
            found = list(pool.map(lambda part: server.read(link, *part), parts))
        assert server.get(id)["status"] == "downloading", "it was too quick to be read while it arrives"
        assert found == [content[start:end] for start, end in parts]
        assert server.read(link, size - 7) == content[-7:]
        assert server.read(link) == content
        server.status(id, "downloaded")
    assert [server.read(link, *part) for part in parts] == [content[start:end] for start, end in parts]
    with server.ask("HEAD", link, user=None, headers={"Range": "bytes=-10"}) as answer:
        assert (answer.status, answer.read()) == (206, b"")
        assert answer.headers["Content-Range"] == f"bytes {size - 10}-{size - 1}/{size}"
        assert "UTF-8''Ein%20sch%C3%B6ner%20Film.mkv" in answer.headers["Content-Disposition"]
    with server.ask("GET", link, user=None, headers={"Range": f"bytes={size}-"}) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{size}")
    with server.ask("GET", link, user=None, headers={"Range": "bytes=0-1,100-109"}) as answer:
        told = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
        parsed = email.message_from_bytes(told + answer.read())
        assert [p.get_payload(decode=True) for p in parsed.get_payload()] == [content[0:2], content[100:110]]
    assert server.get(id)["files"][0]["video_hash"] == opensubtitles(content)


def opensubtitles(data: bytes) -> str:
    """As its documentation has it: the size and the words of both ends, added up."""
    words = struct.unpack("<8192Q", data[:65536]) + struct.unpack("<8192Q", data[-65536:])
    return f"{(len(data) + sum(words)) % (1 << 64):016x}"


def test_nothing_but_loopback_is_listened_on(server: Live) -> None:
    for pid in (server.process.pid, server.node):
        addresses = listening(pid)
        assert addresses
        assert {address.partition(":")[0] for address in addresses} == {"0100007F"}, addresses


def listening(pid: int) -> list[str]:
    """The addresses of a process's listening and datagram sockets, as the kernel prints them."""
    names = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {name[8:-1] for name in names if name.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[9] in inodes and columns[3] in ("0A", "07"):
                found.append(columns[1])
    return found
