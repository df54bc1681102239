"""What is killed, stopped or hangs in the middle: nothing that was promised is lost, and no wrong byte is sent."""

import http.client
import os
import signal
import socket
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from live import Live, until
from swarm import bare_magnet, make_torrent, noise, seeding

CONTENT = noise(6 << 20, seed=3)
RATE = 2_000_000
"""Bytes per second of the seed, so that there is time to break things."""


@contextmanager
def opened(server: Live, url: str) -> Iterator[http.client.HTTPResponse]:
    """A direct link over a connection that takes a little at a time, so that we see what happens to a slow one."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    with closing(connection):
        connection.request("GET", urllib.parse.urlsplit(url).path)
        with connection.getresponse() as answer:
            yield answer


def rest_of(answer: http.client.HTTPResponse) -> tuple[bytes, bool]:
    """What still comes, and whether it was all: a stream may end too soon, but not go wrong."""
    got = []
    try:
        while part := answer.read(65536):
            got.append(part)
    except http.client.IncompleteRead as cut:
        return b"".join([*got, cut.partial]), False
    except OSError:
        return b"".join(got), False
    return b"".join(got), not answer.length


def test_a_stream_outlives_its_engine_or_ends_and_a_new_one_works(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", CONTENT, piece_length=65536)
    with seeding(torrent, tmp_path / "seed", upload_limit=RATE) as seeds, Live(tmp_path / "data") as server:
        id = server.add(str(bare_magnet(torrent, *seeds)))
        link = server.link(server.files(id)[0])
        with opened(server, link) as answer:
            first = answer.read(300_000)
            killed = server.node
            os.kill(killed, signal.SIGKILL)
            began = time.monotonic()
            for target in (
                "/v0/health",
                "/v0/store/torz",
                f"/v0/store/torz/{id}",
                f"/v0/store/torz/check?hash={torrent.hash}",
            ):
                server.data_of("GET", target)
            assert time.monotonic() - began < 2
            second = server.add("7" * 40)
            more, whole = rest_of(answer)
        got = first + more
        assert got == CONTENT[: len(got)]
        assert whole is (len(got) == len(CONTENT))
        assert whole, "our streams go on with the next engine"
        assert server.node != killed
        server.status(id, "downloaded")
        assert server.read(link, 5_000_000) == CONTENT[5_000_000:]
        assert {item["id"] for item in server.data_of("GET", "/v0/store/torz")["items"]} == {id, second}


def test_an_engine_that_hangs_holds_nobody_up_and_goes_on(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", CONTENT[: 3 << 20], piece_length=65536)
    with (
        seeding(torrent, tmp_path / "seed", upload_limit=RATE) as seeds,
        Live(tmp_path / "data", TORZ_STREAM_PATIENCE="1") as server,
    ):
        id = server.add(str(bare_magnet(torrent, *seeds)))
        link = server.link(server.files(id)[0])
        node = server.node
        os.kill(node, signal.SIGSTOP)
        try:
            began = time.monotonic()
            other = server.add("8" * 40)
            for target in ("/v0/health", "/v0/store/torz", f"/v0/store/torz/{other}", "/v0/health/__debug__"):
                server.data_of("GET", target)
            server.data_of("DELETE", f"/v0/store/torz/{other}")
            assert time.monotonic() - began < 2
            began = time.monotonic()
            status, error = server.error_of("GET", link, user=None, headers={"Range": "bytes=3000000-3000009"})
            assert (status, error["code"]) == (503, "SERVICE_UNAVAILABLE")
            assert time.monotonic() - began < 5, "its patience is one second"
        finally:
            os.kill(node, signal.SIGCONT)
        server.status(id, "downloaded")
        assert server.read(link) == CONTENT[: 3 << 20]


def test_a_server_killed_again_and_again_forgets_no_promise(tmp_path: Path) -> None:
    big = make_torrent(tmp_path / "big", CONTENT, piece_length=65536)
    small = make_torrent(tmp_path / "small", {"a.txt": b"a", "b.bin": noise(50_000)}, name="Small")
    server = Live(tmp_path / "data")
    with (
        seeding(big, tmp_path / "big", upload_limit=RATE) as slow,
        seeding(small, tmp_path / "small") as quick,
    ):
        server.start()
        done = server.add(str(bare_magnet(small, *quick)), user="bob")
        finished = server.status(done, "downloaded", user="bob")
        link = server.link(finished["files"][1], user="bob")
        ids = [server.add(str(bare_magnet(big, *slow)))]
        for n in range(3):
            wanted = (n + 1) << 20
            until(lambda wanted=wanted: server.get(ids[0]).get("transfer", {}).get("done", 0) > wanted)  # type: ignore[misc]
            ids.append(server.add(f"{n + 1}" * 40))  # answered, so promised: killed before anything else happens
            server.kill()
            server.start()
            found = server.data_of("GET", "/v0/store/torz")
            assert [item["id"] for item in found["items"]] == ids[::-1]
            assert found["total_items"] == len(ids)
            assert server.get(done, user="bob") == finished
            link = server.url + urllib.parse.urlsplit(link).path
            assert server.read(link) == noise(50_000)
            assert server.get(ids[0])["files"], "metadata need not be fetched twice"
        server.status(ids[0], "downloaded")
        assert server.read(server.link(server.files(ids[0])[0])) == CONTENT
        server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_streams_is_orderly(tmp_path: Path, number: signal.Signals) -> None:
    torrent = make_torrent(tmp_path / "seed", CONTENT, piece_length=65536)
    server = Live(tmp_path / "data", TORZ_LOG_LEVEL="debug")
    with seeding(torrent, tmp_path / "seed", upload_limit=200_000) as seeds:
        server.start()
        id = server.add(str(bare_magnet(torrent, *seeds)))
        link = server.link(server.files(id)[0])
        with opened(server, link) as answer:
            first = answer.read(10_000)
            node = server.node
            began = time.monotonic()
            os.kill(server.process.pid, number)
            more, whole = rest_of(answer)
            server.stop()
        assert time.monotonic() - began < 10
        assert not whole
        assert first + more == CONTENT[: len(first + more)]
        assert not Path(f"/proc/{node}").exists()
        assert not (tmp_path / "data" / "local-credentials").exists()
