"""Starts that cannot work end at once, with a sentence that says what to do, and torrents that mean harm do none."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from live import Live
from torz.domain.bencode import encode

SETTINGS = [
    ({"TORZ_PORT": "99999"}, "TORZ_PORT"),
    ({"TORZ_PORT": "http"}, "TORZ_PORT"),
    ({"TORZ_PORTT": "1"}, "Is TORZ_PORT meant?"),
    ({"TORZ_HOST": ""}, "TORZ_HOST"),
    ({"TORZ_HOST": "203.0.113.9"}, "203.0.113.9"),
    ({"TORZ_HOST": "no.such.host.invalid"}, "TORZ_HOST"),
    ({"TORZ_AUTH": "top-secret-word"}, "TORZ_AUTH"),
    ({"TORZ_AUTH_FILE": "/nowhere/auth", "TORZ_AUTH": "x:top-secret-word"}, "TORZ_AUTH_FILE"),
    ({"TORZ_STORE_AUTH": "ann:nostore:top-secret-word"}, "nostore"),
    ({"TORZ_BASE_URL": "torz.example"}, "TORZ_BASE_URL"),
    ({"TORZ_ENGINE_LISTEN": "nonsense"}, "TORZ_ENGINE_LISTEN"),
    ({"TORZ_ENGINE_LISTEN": "::1:6881"}, "TORZ_ENGINE_LISTEN"),
    ({"TORZ_ENGINE_TRANSPORT": "smoke"}, "TORZ_ENGINE_TRANSPORT"),
    ({"TORZ_DISK_RESERVE": "-5"}, "TORZ_DISK_RESERVE"),
    ({"TORZ_CHECK_CACHE": "infGB"}, "TORZ_CHECK_CACHE"),
    ({"TORZ_TRUSTED_PROXIES": "everybody"}, "TORZ_TRUSTED_PROXIES"),
    ({"TORZ_FETCH_ALLOW": "10.0.0.0/99"}, "TORZ_FETCH_ALLOW"),
    ({"TORZ_FETCH_TIMEOUT": "0"}, "TORZ_FETCH_TIMEOUT"),
    ({"TORZ_CONFIG": "/nowhere/torz.toml"}, "/nowhere/torz.toml"),
    ({"TORZ_DATA_DIR": "/dev/null/torz"}, "TORZ_DATA_DIR"),
    ({"STREMTHRU_LISTEN_ADDR": ":http", "TORZ_PORT": ""}, "TORZ_PORT"),
]


def refused(server: Live) -> str:
    """What a server says that does not start."""
    process = server.spawn()
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 1, errors
    assert out == ""
    assert errors.startswith("torz: "), errors
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    assert "top-secret-word" not in errors
    assert errors.rstrip().endswith((".", "?"))
    return errors


@pytest.mark.parametrize(("settings", "named"), SETTINGS, ids=lambda value: str(value)[:50])
def test_a_setting_that_cannot_be_is_named_in_a_sentence(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    assert named in refused(Live(tmp_path / "data", **settings))
    if "TORZ_DATA_DIR" not in settings:
        assert not (tmp_path / "data" / "local-credentials").exists()


def test_a_database_that_is_none_or_too_new_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "data" / "torz.db"
    path.parent.mkdir()
    path.write_bytes(b"this is no database, but it is all I have\n" * 100)
    before = path.read_bytes()
    assert str(path) in refused(Live(tmp_path / "data"))
    assert path.read_bytes() == before
    path.unlink()
    with Live(tmp_path / "data"):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("insert into schema_migration values (9999, 'later.sql', 'x', 1)")
    connection.close()
    assert "newer Torz" in refused(Live(tmp_path / "data"))


def info(**more: object) -> dict[bytes, object]:
    """A torrent of one file of five bytes, changed a little. `_` in names stands for a blank."""
    given = {key.replace("_", " ").encode(): value for key, value in more.items()}
    base: dict[bytes, object] = {b"name": b"x", b"piece length": 16384, b"pieces": b"x" * 20, b"length": 5}
    return {key: value for key, value in (base | given).items() if value is not None}


def files(*paths: list[bytes], **more: object) -> dict[bytes, object]:
    named = {key.replace("_", " ").encode(): value for key, value in more.items()}
    listed = [{b"length": 5, b"path": path, **named} for path in paths]
    return info(length=None, files=listed, pieces=b"x" * 20 * -(-5 * len(paths) // 16384))


REFUSED = {
    "no bencode": b"<html>",
    "nothing": b"",
    "a list": b"le",
    "cut off": encode({b"info": info()})[:-3],
    "nested deeply": b"l" * 500_000,
    "a string that claims gigabytes": b"d4:info9999999999:x",
    "a number without end": b"d4:infoi" + b"9" * 100_000 + b"ee",
    "no info": encode({b"announce": b"http://x/"}),
    "no pieces": encode({b"info": info(pieces=None)}),
    "too few pieces": encode({b"info": info(length=99999)}),
    "half a piece": encode({b"info": info(pieces=b"x" * 19)}),
    "pieces of nothing": encode({b"info": info(piece_length=0)}),
    "pieces of less than nothing": encode({b"info": info(piece_length=-16384)}),
    "tiny pieces": encode({b"info": info(piece_length=1, pieces=b"x" * 100)}),
    "huge pieces": encode({b"info": info(piece_length=1 << 29)}),
    "a negative length": encode({b"info": info(length=-5)}),
    "a length that overflows": encode({b"info": info(length=1 << 63)}),
    "deep folders": encode({b"info": files([b"d"] * 200)}),
    "only empty files": encode({b"info": info(length=0, pieces=b"")}),
    "a path of no text": encode({b"info": files([])}),
}
HARMLESS = {
    "something behind": encode({b"info": files([b"a"])}) + b"x",
    "up and away": encode({b"info": files([b"..", b"..", b"etc", b"passwd"])}),
    "up by its name": encode({b"info": {**files([b"a"]), b"name": b"../../up"}}),
    "absolute": encode({b"info": {**files([b"/etc/passwd"]), b"name": b"/etc"}}),
    "backslashes": encode({b"info": files([b"..\\..\\up.txt"])}),
    "a terminal's nightmare": encode({b"info": files([b"\x1b[2J\x07\x00\r\n.txt"])}),
    "right to left": encode({b"info": files(["a\u202etxt.exe".encode()])}),
    "no text": encode({b"info": files([b"\xff\xfe\xc3"])}),
    "names of devices": encode({b"info": files([b"CON"], [b"a:b"], [b"-rf"], [b"$(id)"], [b".hidden"])}),
    "long names": encode({b"info": {**files([b"p" * 300]), b"name": b"n" * 300}}),
    "the same name": encode({b"info": files([b"a"], [b"a"], [b"A"])}),
    "a link out": encode({b"info": files([b"l"], attr=b"l", symlink_path=[b"..", b"..", b"..", b"etc", b"passwd"])}),
    "a program": encode({b"info": files([b"run.sh"], attr=b"x")}),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with Live(tmp_path_factory.mktemp("hostile") / "data", TORZ_STREAM_PATIENCE="0.2") as live:
        yield live


def put(server: Live, torrent: bytes) -> tuple[int, bytes]:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--b--\r\n' % torrent
    with server.ask(
        "POST", "/v0/store/torz", body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    ) as answer:
        return answer.status, answer.read()


@pytest.mark.parametrize("torrent", REFUSED.values(), ids=REFUSED)
def test_what_is_no_torrent_is_refused_and_leaves_nothing(server: Live, torrent: bytes) -> None:
    status, body = put(server, torrent)
    assert status == 400, body
    assert b'"message":"invalid torrent file"' in body
    assert server.data_of("GET", "/v0/store/torz")["total_items"] == 0


def test_what_means_harm_does_none(server: Live) -> None:
    outside = server.data.parent
    before = sorted(os.listdir(outside))
    engine = server.node
    for what, torrent in HARMLESS.items():
        status, body = put(server, torrent)
        assert status in (201, 400), what
        for bad in (b"\x1b", b"\\u001b", b"\\u0000", "\u202e".encode(), b"../", b'/.."', b'".."', b"\\\\"):
            assert bad not in body, (what, body)
    listed = server.data_of("GET", "/v0/store/torz?limit=500")["items"]
    for item in listed:
        server.status(item["id"], "queued", "downloading", "processing", "invalid", "failed")
        for file in server.get(item["id"])["files"]:
            assert server.error_of("GET", server.link(file), user=None, headers={"Range": "bytes=0-0"})[0] in (404, 503)
        server.data_of("DELETE", f"/v0/store/torz/{item['id']}")
    assert sorted(os.listdir(outside)) == before
    assert server.node == engine, "the engine did not survive it"
    assert server.data_of("GET", "/v0/health") == {"status": "ok"}
