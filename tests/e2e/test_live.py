"""The real server with its real engine: downloads, crashes, two users, wrong starts."""

import base64
import json
import os
import stat
import time
import urllib.parse
from pathlib import Path

import pytest

from live import Live, until
from swarm import bare_magnet, make_torrent, noise, seeding
from torz.domain.bencode import encode
from torz.domain.videohash import video_hash


def test_the_first_start_shows_credentials_once_and_keeps_only_their_hash(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = Live(data, TORZ_AUTH="")
    with first:
        assert stat.S_IMODE((data / "local-credentials").stat().st_mode) == 0o600
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert first.url.startswith("http://127.0.0.1:")
    password = first.out.split("password")[1].split()[0]
    assert password not in first.errors
    assert all(password.encode() not in path.read_bytes() for path in data.rglob("*") if path.is_file())
    again = Live(data, TORZ_AUTH="")
    with again:
        header = {"X-StremThru-Authorization": f"torz:{password}"}
        assert again.data_of("GET", "/v0/store/user", user=None, headers=header)["id"] == "torz"
        local = {"X-StremThru-Authorization": again.local}
        assert again.data_of("GET", "/v0/store/user", user=None, headers=local)["id"] == "torz"
        status, error = again.error_of(
            "GET", "/v0/store/user", user=None, headers={"X-StremThru-Authorization": "torz:x"}
        )
        assert (status, error["message"]) == (401, "invalid credentials")
    assert "password" not in again.out


def test_a_second_server_on_a_folder_or_a_port_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with Live(tmp_path / "data") as server:
        second = Live(tmp_path / "data").spawn()
        assert "Another Torz" in second.communicate(timeout=20)[1]
        port = server.url.rpartition(":")[2]
        third = Live(tmp_path / "other", TORZ_PORT=port).spawn()
        errors = third.communicate(timeout=20)[1]
        assert third.returncode == 1
        assert "TORZ_PORT" in errors
        assert "Traceback" not in errors


def test_two_accounts_share_one_copy_and_neither_takes_it_from_the_other(tmp_path: Path) -> None:
    content = noise(700_001)
    torrent = make_torrent(tmp_path / "seed", {"a/film.mkv": content, "b.txt": b"text"}, name="Pack")
    with seeding(torrent, tmp_path / "seed") as seeds, Live(tmp_path / "data") as server:
        ann = server.add(str(bare_magnet(torrent, *seeds)))
        done = server.status(ann, "downloaded")
        film = done["files"][0]
        assert (film["path"], film["size"], film["index"]) == ("/a/film.mkv", len(content), 0)
        assert film["video_hash"] == video_hash(len(content), content[:65536], content[-65536:])
        bob = server.data_of("POST", "/v0/store/torz", {"link": str(torrent.hash)}, user="bob")
        assert bob["status"] == "downloaded"
        link, bobs = server.link(film), server.link(bob["files"][0], user="bob")
        assert server.read(link) == content
        assert server.read(link, 699_990) == content[699_990:]
        [item] = server.data_of("GET", f"/v0/store/torz/check?hash={torrent.hash}", user="bob")["items"]
        assert (item["status"], len(item["files"])) == ("cached", 2)
        server.data_of("DELETE", f"/v0/store/torz/{ann}")
        assert server.error_of("GET", link, user=None)[0] == 410
        assert server.read(bobs) == content
        server.data_of("DELETE", f"/v0/store/torz/{bob['id']}", user="bob")
        until(lambda: not os.listdir(tmp_path / "data" / "torrents"))
        assert server.data_of("GET", f"/v0/store/torz/check?hash={torrent.hash}")["items"][0]["status"] == "unknown"


def test_what_was_removed_can_be_added_again(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(100_000))
    with seeding(torrent, tmp_path / "seed") as seeds, Live(tmp_path / "data") as server:
        for _ in range(4):
            id = server.add(str(bare_magnet(torrent, *seeds)))
            server.status(id, "downloaded")
            server.data_of("DELETE", f"/v0/store/torz/{id}")


def test_a_file_is_read_byte_by_byte_while_it_arrives(tmp_path: Path) -> None:
    content = noise(6 << 20)
    torrent = make_torrent(tmp_path / "seed", content, piece_length=65536)
    with seeding(torrent, tmp_path / "seed", upload_limit=3_000_000) as seeds, Live(tmp_path / "data") as server:
        id = server.add(str(bare_magnet(torrent, *seeds)))
        link = server.link(server.files(id)[0])
        assert server.read(link, 5_000_000, 5_000_100) == content[5_000_000:5_000_100]
        assert server.get(id)["status"] == "downloading"
        assert server.read(link) == content
        server.status(id, "downloaded")


def test_nothing_is_lost_when_the_server_is_killed_in_the_middle(tmp_path: Path) -> None:
    content = noise(8 << 20)
    torrent = make_torrent(tmp_path / "seed", content, piece_length=65536)
    server = Live(tmp_path / "data")
    with seeding(torrent, tmp_path / "seed", upload_limit=4_000_000) as seeds:
        server.start()
        id = server.add(str(bare_magnet(torrent, *seeds)))
        until(lambda: server.get(id).get("transfer", {}).get("done", 0) > 1 << 20)
        link = server.link(server.files(id)[0])
        server.kill()
        server.start()
        assert [one["id"] for one in server.data_of("GET", "/v0/store/torz")["items"]] == [id]
        link = server.url + urllib.parse.urlsplit(link).path
        assert server.read(link, 100, 200) == content[100:200]
        server.status(id, "downloaded")
        assert server.read(link) == content
        server.kill()
    with server:  # what was complete is served at once, without a seed
        assert server.get(id)["status"] == "downloaded"
        assert server.read(server.url + urllib.parse.urlsplit(link).path) == content


def test_the_api_answers_on_while_the_engine_is_gone_and_a_new_one_goes_on(tmp_path: Path) -> None:
    content = noise(6 << 20)
    torrent = make_torrent(tmp_path / "seed", content, piece_length=65536)
    with seeding(torrent, tmp_path / "seed", upload_limit=2_000_000) as seeds, Live(tmp_path / "data") as server:
        id = server.add(str(bare_magnet(torrent, *seeds)))
        link = server.link(server.files(id)[0])
        node = server.node
        os.kill(node, 9)
        began = time.monotonic()
        assert server.data_of("GET", "/v0/health") == {"status": "ok"}
        assert server.get(id)["id"] == id
        assert server.data_of("GET", f"/v0/store/torz/check?hash={torrent.hash}")["items"][0]["status"] == "unknown"
        assert time.monotonic() - began < 5
        assert server.read(link, 0, 1000) == content[:1000]
        assert server.node != node
        server.status(id, "downloaded")
        assert server.read(link) == content


def test_hostile_torrents_leave_nothing_outside_and_the_server_well(tmp_path: Path) -> None:
    def hostile(name: bytes, path: list[bytes], **more: object) -> bytes:
        file = {b"length": 5, b"path": path, **{key.encode(): value for key, value in more.items()}}
        info = {b"name": name, b"piece length": 16384, b"pieces": b"x" * 20, b"files": [file]}
        return encode({b"info": info})

    cases = [
        hostile(b"..", [b"..", b"..", b"etc", b"passwd"]),
        hostile(b"/etc", [b"/etc/passwd"]),
        hostile(b"a\x00b\x1b[2J", [b"\xff\xfe", b"CON", b"a:b"]),
        hostile(b"link", [b"x"], attr=b"l", **{"symlink path": [b"..", b"..", b"..", b"etc", b"passwd"]}),
        hostile(b"n" * 300, [b"p" * 300]),
    ]
    with Live(tmp_path / "data") as server:
        for torrent in cases:
            body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--b--\r\n' % torrent
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            with server.ask("POST", "/v0/store/torz", body, headers=headers) as answer:
                assert answer.status in (201, 400)
                assert b"\x1b" not in answer.read()
        time.sleep(1)
        assert server.data_of("GET", "/v0/health") == {"status": "ok"}
        folder = (tmp_path / "data" / "torrents").resolve()
        for path in tmp_path.rglob("*"):
            assert not path.is_symlink() or path.resolve().is_relative_to(folder)
        assert sorted(os.listdir(tmp_path)) == ["data"]


def test_five_hundred_hashes_and_magnets_fit_into_one_request(tmp_path: Path) -> None:
    hashes = [f"{n:040x}" for n in range(1, 501)]
    magnets = [urllib.parse.quote(f"magnet:?xt=urn:btih:{h}&dn={'x' * 60}", safe="") for h in hashes]
    with Live(tmp_path / "data") as server:
        server.add(hashes[7])
        for query in (
            "torz/check?" + "&".join("hash=" + h for h in hashes),
            "torz/check?hash=" + ",".join(hashes),
            "torz/check?hash=" + "%2C".join(hashes),
            "magnets/check?magnet=" + ",".join(magnets),
            "magnets/check?" + "&".join("magnet=" + m for m in magnets),
        ):
            items = server.data_of("GET", "/v0/store/" + query)["items"]
            assert [item["hash"] for item in items] == [hashes[7]], query[:60]


def test_a_url_on_this_machine_is_fetched_only_where_the_operator_allows_it(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(20_000))
    with Live(tmp_path / "one") as web:
        target = web.url + "/docs"
        with Live(tmp_path / "two") as server:
            status, error = server.error_of("POST", "/v0/store/torz", {"link": target})
            assert (status, error["errors"][0]["message"]) == (400, "unable to fetch torrent file")
            assert "TORZ_FETCH_ALLOW" in error["hint"]
        with Live(tmp_path / "three", TORZ_FETCH_ALLOW="127.0.0.1") as server:
            status, error = server.error_of("POST", "/v0/store/torz", {"link": target})
            assert (status, error["message"]) == (400, "invalid torrent file")
            assert server.upload(torrent.raw)["hash"] == str(torrent.hash)


def test_a_download_without_room_waits_and_says_so(tmp_path: Path) -> None:
    torrent = make_torrent(tmp_path / "seed", noise(300_000))
    with seeding(torrent, tmp_path / "seed") as seeds, Live(tmp_path / "data", TORZ_DISK_RESERVE="900000GB") as server:
        id = server.add(str(bare_magnet(torrent, *seeds)))
        waiting = until(
            lambda: (t := server.get(id)) and "disk" in t.get("transfer", {}).get("message", "").lower() and t
        )
        assert waiting["status"] == "queued"
        assert "Free some space" in waiting["transfer"]["message"]


@pytest.mark.parametrize("version", ["v2", "hybrid"])
def test_newer_torrents_go_by_twenty_bytes_of_their_hash(tmp_path: Path, version: str) -> None:
    content = noise(200_000)
    torrent = make_torrent(tmp_path / "seed", {"one.bin": content, "two.bin": b"x" * 70_000}, version=version)  # type: ignore[arg-type]
    with seeding(torrent, tmp_path / "seed") as seeds, Live(tmp_path / "data") as server:
        added = server.upload(torrent.with_trackers([]).raw)
        assert added["hash"] == str(torrent.hash)[:40]
        assert [file["name"] for file in added["files"]] == ["one.bin", "two.bin"]
        server.add(f"magnet:?xt=urn:btih:{added['hash']}&x.pe={seeds[0].address}")
        done = server.status(added["id"], "downloaded")
        assert server.read(server.link(done["files"][0])) == content


def test_credentials_count_in_every_form(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"ann:ann-secret").decode()
    with Live(tmp_path / "data") as server:
        for value in (f"Basic {encoded}", encoded, "Basic ann:ann-secret", "ann:ann-secret"):
            for name in ("X-StremThru-Authorization", "Proxy-Authorization"):
                assert server.data_of("GET", "/v0/store/user", user=None, headers={name: value})["id"] == "ann"
        store = {"X-StremThru-Store-Name": "torz", "Authorization": f"Bearer {encoded}"}
        assert server.data_of("GET", "/v0/store/user", user=None, headers=store)["id"] == "ann"
        with server.ask("GET", "/openapi.json", user=None) as answer:
            assert json.loads(answer.read())["openapi"] == "3.1.0"
