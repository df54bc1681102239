"""The commands against a small server on this machine, with torz whose names are hostile."""

import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from torz.cli import main

EVIL = "\x1b]0;owned\x07\x1b[2J[red]\u202egpj\u2066.exe\x9b31m\r\n:bomb:\\"
HASH = "f" * 40
BODY = bytes(range(256)) * 16


def torz(id: str, hash: str, name: str, status: str = "downloaded", **more: object) -> dict[str, object]:
    return {
        "id": id,
        "hash": hash,
        "name": name,
        "size": 2,
        "status": status,
        "added_at": "1970-01-01T00:00:00Z",
        **more,
    }


def file(index: int, path: str, size: int = len(BODY)) -> dict[str, object]:
    return {"index": index, "path": path, "name": path.rpartition("/")[2], "size": size, "link": f"torz://{index}"}


class Api:
    """What the server holds, and what it was asked."""

    def __init__(self) -> None:
        self.files = [file(0, "/../../evil\x1b[2J.mkv"), file(1, "/a:b.txt"), file(2, "/a?b.txt")]
        self.held = {
            "abc123": torz("abc123", HASH, EVIL),
            "abd456": torz("abd456", "e" * 40, "Second"),
        }
        self.removed: list[str] = []
        self.seen: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        route = path.partition("?")[0]
        if route.startswith("/file/"):
            return 200, None
        if route == "/v0/store/torz" and method == "GET":
            return 200, {"items": list(self.held.values()), "total_items": len(self.held)}
        if route == "/v0/store/torz/check":
            return 200, {"items": [{"hash": HASH, "magnet": "", "status": "cached", "name": EVIL, "files": []}]}
        if route == "/v0/store/torz/link/generate":
            return 200, {"link": f"{self.url}/file/{json.loads(body)['link'][-1]}"}
        if route == "/v0/store/torz":
            return 201, {**self.held["abc123"], "files": [], "magnet": ""}
        if route == "/v0/store/user":
            return 200, {"id": EVIL, "email": EVIL, "subscription_status": "premium", "has_usenet": False}
        id = route.rpartition("/")[2]
        if id not in self.held:
            return 404, {"code": "NOT_FOUND", "message": EVIL, "errors": []}
        if method == "DELETE":
            self.removed.append(id)
            return 200, {"id": id}
        return 200, {**self.held[id], "files": self.files}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    held = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            held.seen.append(f"{self.command} {self.path} {self.headers.get('X-StremThru-Authorization', '')}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = held.answer(self.command, self.path, body)
            sent = BODY if said is None else json.dumps({"data" if status < 300 else "error": said}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_POST = do_DELETE = do_GET  # noqa: N815 - the standard library's names

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        (tmp_path / "local-credentials").write_text(f"{held.url}\ntorz:local-secret\n")
        yield held
        server.shutdown()


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("TORZ_URL", "TORZ_AUTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORZ_DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> Ran:
        code = main(arguments)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


COMMANDS = [
    ("ls",), ("show", "abc123"), ("show", "nope"), ("check", HASH), ("add", HASH), ("rm", "--yes", "abc123"),
    ("store", "user"), ("link", "abc123"), ("link", "abc123", EVIL.replace("\0", "")),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
@pytest.mark.parametrize("flag", [(), ("--json",)], ids=["text", "json"])
def test_a_strangers_text_cannot_steer_the_terminal(
    command: tuple[str, ...], flag: tuple[str, ...], api: Api, run: Run
) -> None:
    ran = run(*command, *flag)
    assert is_harmless(ran.out), ascii(ran.out)
    assert is_harmless(ran.err), ascii(ran.err)
    if flag and not ran.code:
        assert ran.json
        assert ran.out.isascii()


def test_a_name_is_no_markup_and_no_emoji(api: Api, run: Run) -> None:
    assert "[red]" in run("ls").out
    assert ":bomb:\\" in run("ls").out


def test_json_has_the_name_as_it_is(api: Api, run: Run) -> None:
    assert run("--json", "ls").json["items"][0]["name"] == EVIL
    assert run("ls", "--json").json["total_items"] == 2
    assert run("--json", "ls", "--json").code == 0


def test_a_pipe_gets_whole_lines(api: Api, run: Run) -> None:
    api.held["abd456"] = torz("abd456", "e" * 40, "Long name " * 30)
    assert "Long name " * 29 in run("ls").out


def test_an_id_may_be_shortened_or_be_the_hash(api: Api, run: Run) -> None:
    for text in ("abc123", "abc", HASH, HASH.upper()):
        assert run("show", text, "--json").json["id"] == "abc123"


def test_an_id_that_means_two_or_none_is_a_sentence(api: Api, run: Run) -> None:
    many, none = run("show", "ab"), run("show", "zzz")
    assert (many.code, none.code) == (1, 1)
    assert "2 torz" in many.err
    assert "torz ls" in none.err
    assert not many.out + none.out


def test_local_credentials_go_to_the_server_that_left_them_and_to_no_other(api: Api, run: Run, tmp_path: Path) -> None:
    secret = b64encode(b"torz:local-secret").decode()
    for more in ((), ("--url", api.url), ("--url", api.url.replace("127.0.0.1", "localhost") + "/")):
        assert run(*more, "ls").code == 0
        assert secret in api.seen.pop()
    (tmp_path / "local-credentials").write_text("http://127.0.0.1:1\ntorz:local-secret\n")
    run("--url", api.url, "ls")
    assert secret not in api.seen[-1]


def test_given_credentials_win(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--auth", "ann:s", "ls")
    assert b64encode(b"ann:s").decode() in api.seen.pop()
    monkeypatch.setenv("TORZ_AUTH", "bob:t,ann:s")
    run("--url", api.url, "ls")
    assert b64encode(b"bob:t").decode() in api.seen.pop()


@pytest.mark.parametrize("left", ["", "one line", "http://127.0.0.1:1", "\xff\xfe\n", "a\nb\nc\nd"])
def test_whatever_stands_in_the_credentials_file_is_no_crash(left: str, api: Api, run: Run, tmp_path: Path) -> None:
    (tmp_path / "local-credentials").write_bytes(left.encode("latin-1"))
    assert run("ls").code == 1


def test_removing_the_same_twice_is_removing_it_once(api: Api, run: Run) -> None:
    assert run("rm", "abc", "abc123", HASH, "--json").json == {"removed": ["abc123"]}
    assert api.removed == ["abc123"]


def test_nothing_is_removed_when_one_is_not_known(api: Api, run: Run) -> None:
    assert run("rm", "abc123", "zzz").code == 1
    assert api.removed == []


def test_a_check_of_what_is_no_hash_is_a_wrong_use(api: Api, run: Run) -> None:
    ran = run("check", HASH, "nonsense\x1b[2J")
    assert (ran.code, "nonsense" in ran.err, is_harmless(ran.err)) == (2, True, True)
    assert run("check", HASH, f"magnet:?xt=urn:btih:{HASH}", "--json").code == 0


def test_files_arrive_in_the_folder_and_nowhere_else(api: Api, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    assert run("get", "abc123", "-o", str(target)).code == 0
    found = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != "local-credentials")
    assert len(found) == 3
    assert all(path.is_relative_to(target) and path.read_bytes() == BODY for path in found)


def test_getting_again_fetches_nothing_again(api: Api, run: Run, tmp_path: Path) -> None:
    paths = run("get", "abc123", "-o", str(tmp_path / "out"), "--json").json["files"]
    api.seen.clear()
    assert run("get", "abc123", "-o", str(tmp_path / "out"), "--json").json["files"] == paths
    assert not any("/file/" in asked for asked in api.seen)


def test_a_file_of_mine_is_not_replaced(api: Api, run: Run, tmp_path: Path) -> None:
    api.files = [file(0, "/notes.txt")]
    (tmp_path / "notes.txt").write_text("mine")
    ran = run("get", "abc123", "-o", str(tmp_path))
    assert (ran.code, (tmp_path / "notes.txt").read_text()) == (1, "mine")
    assert "--output" in ran.err


def test_getting_what_is_not_known_yet_is_no_success(api: Api, run: Run, tmp_path: Path) -> None:
    api.files = []
    ran = run("get", "abc123", "-o", str(tmp_path / "out"))
    assert ran.code == 1
    assert "metadata" in ran.err


def test_the_largest_video_is_linked_by_default(api: Api, run: Run) -> None:
    api.files = [file(0, "/big.txt", 99), file(1, "/small.mkv", 1), file(2, "/film.mkv", 9)]
    assert run("link", "abc123").out == f"{api.url}/file/2\n"
    for text in ("1", "/small.mkv", "small.mkv"):
        assert run("link", "abc123", text).out == f"{api.url}/file/1\n"
    assert run("link", "abc123", "nope").code == 1


def test_playing_gives_the_link_to_the_player_as_it_is(api: Api, run: Run, tmp_path: Path) -> None:
    player = tmp_path / "player"
    player.write_text(f'#!/bin/sh\nprintf "%s" "$*" > {tmp_path}/played\nexit $(cat {tmp_path}/code)\n')
    player.chmod(0o700)
    for code, expected in (("0", 0), ("4", 1)):
        (tmp_path / "code").write_text(code)
        assert run("play", "abc123", "0", "--player", str(player)).code == expected
    assert (tmp_path / "played").read_text() == f"{api.url}/file/0"
    assert run("play", "abc123", "--player", "no-such-player").code == 2


def test_a_folder_of_torrents_is_added_and_a_film_is_not_read(api: Api, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "Season 1: all"
    folder.mkdir()
    (folder / "b: x.torrent").write_bytes(b"d4:infode")
    with (folder / "film.torrent").open("wb") as film:
        film.truncate(1 << 40)
    ran = run("add", str(folder), "--json")
    assert (ran.code, len(ran.json["items"]), len(ran.json["failed"])) == (1, 1, 1)
    assert "larger than" in ran.json["failed"][0]
    assert run("add", str(folder / "b: x.torrent")).code == 0


def test_what_cannot_be_added_leaves_the_rest_to_be_added(api: Api, run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.torrent").mkdir()
    ran = run("add", "\udcff\udcfe", HASH, "--json")
    assert (ran.code, len(ran.json["items"]), len(ran.json["failed"])) == (1, 1, 1)


def test_an_unfinished_one_is_not_success_after_waiting(api: Api, run: Run) -> None:
    assert run("add", HASH, "--wait", "--json").code == 0
    api.held["abc123"] = torz("abc123", HASH, EVIL, "failed")
    assert run("add", HASH, "--wait").code == 1


def test_declining_is_not_success(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torz.cli.session.sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", lambda question: False)
    assert run("rm", "abc123").code == 1
    assert api.removed == []


def test_the_doctor_says_whose_credentials_are_missing(api: Api, run: Run) -> None:
    api.held = {}
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert all(re.search(r"\w", finding["said"]) for finding in ran.json["findings"])
