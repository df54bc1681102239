"""The wire contract: golden bodies, statuses and headers, in both generations."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakes import Inside, inside
from torrents import GREETING, make_torrent
from torz.domain.torz import TorzStatus
from torz.ports.node import Changed, Progress

pytestmark = pytest.mark.anyio
HEX = str(GREETING.hash)
MAGNET = f"magnet:?xt=urn:btih:{HEX}"
REALDEBRID = {"X-StremThru-Store-Name": "realdebrid", "X-StremThru-Store-Authorization": "Bearer x"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path) as made:
        yield made


GOLDEN = [
    ("GET", "/v0/store/torz", None, None, 400, '{"error":{"code":"BAD_REQUEST","message":"missing store","errors":[{"message":"missing store"}]}}'),
    ("GET", "/v0/store/torz?limit=501", None, "ann", 400, '{"error":{"code":"BAD_REQUEST","message":"limit cannot be greater than 500","errors":[{"message":"limit cannot be greater than 500"}]}}'),
    ("GET", "/v0/store/torz?limit=abc", None, "ann", 400, '{"error":{"code":"BAD_REQUEST","message":"invalid limit","errors":[{"message":"invalid limit"}]}}'),
    ("PUT", "/v0/store/torz", None, "ann", 405, '{"error":{"code":"METHOD_NOT_ALLOWED","message":"Method Not Allowed","errors":[{"message":"Method Not Allowed"}]}}'),
    ("POST", "/v0/store/torz", {"link": "zzz"}, "ann", 400, '{"error":{"code":"BAD_REQUEST","message":"Bad Request","errors":[{"location":"link","locationType":"body","message":"invalid link"}]}}'),
    ("GET", "/v0/store/torz/check", None, "ann", 400, '{"error":{"code":"BAD_REQUEST","message":"Bad Request","errors":[{"location":"hash","locationType":"query","message":"missing hash"}]}}'),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "body", "user", "status", "golden"), GOLDEN)
async def test_golden_errors_come_byte_for_byte_before_what_we_add(
    api: Inside, method: str, target: str, body: Any, user: str | None, status: int, golden: str
) -> None:
    answer = await api.ask(method, target, body, user=user)
    assert answer.status == status
    assert answer.body.startswith(golden.removesuffix("}}").encode())
    added = answer.json["error"].keys() - {"code", "message", "errors"}
    assert added <= {"type", "request_id", "status_code", "hint"}
    assert answer.json["error"]["status_code"] == status
    assert answer.body.endswith(b"}}\n")
    assert answer.headers["content-type"] == "application/json"


LEGACY = [
    ("GET", "/v0/store/user", None, {}, 400, '{"error":{"request_id":"<id>","type":"api_error","code":"BAD_REQUEST","message":"missing store","method":"GET","path":"/v0/store/user","status_code":400'),
    ("GET", "/v0/store/user", None, {"X-StremThru-Store-Name": "realdebrid"}, 401, '{"error":{"request_id":"<id>","type":"api_error","code":"UNAUTHORIZED","message":"unauthorized","method":"GET","path":"/v0/store/user","status_code":401,"store_name":"realdebrid"'),
    ("GET", "/v0/store/magnets?limit=abc", None, REALDEBRID, 400, '{"error":{"request_id":"<id>","type":"api_error","code":"BAD_REQUEST","message":"invalid limit","method":"GET","path":"/v0/store/magnets","status_code":400,"store_name":"realdebrid"'),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "body", "headers", "status", "golden"), LEGACY)
async def test_golden_legacy_errors(
    api: Inside, method: str, target: str, body: Any, headers: dict[str, str], status: int, golden: str
) -> None:
    answer = await api.ask(method, target, body, user=None, headers={"Request-ID": "<id>", **headers})
    assert answer.status == status
    assert answer.body.startswith(golden.encode())


async def test_a_whole_story_on_the_embedded_store(api: Inside) -> None:
    added = await api.ask(
        "POST", "/v0/store/torz", {"link": MAGNET + "&dn=A+B%26C&tr=http%3A%2F%2Ft.example%2Fannounce"}
    )
    assert added.status == 201
    assert added.headers["x-stremthru-store-name"] == "torz"
    assert added.data["magnet"] == MAGNET + "&dn=A%20B%26C"
    assert (added.data["hash"], added.data["name"], added.data["size"]) == (HEX, "A B&C", -1)
    assert (added.data["status"], added.data["files"]) == ("queued", [])
    assert api.node.nudges == 1
    id = added.data["id"]

    await api.node_repo.learn(GREETING, GREETING.hash.raw)
    api.node.said[GREETING.hash.raw] = Progress(GREETING.hash.raw, TorzStatus.DOWNLOADING, "", 5, 13, 1000, 0, 3, 2)
    api.node.say(Changed(GREETING.hash.raw))
    got = (await api.ask("GET", f"/v0/store/torz/{id}")).data
    assert got["status"] == "downloading"
    assert got["transfer"] == {
        "done": 5, "total": 13, "download_rate": 1000, "upload_rate": 0, "peers": 3, "seeds": 2, "eta": 0, "message": "",
    }  # fmt: skip
    [file] = got["files"]
    assert file["link"].startswith("stremthru://store/torz/")
    del file["link"]
    assert file == {"index": 0, "path": "/greeting.txt", "name": "greeting.txt", "size": 13, "source": "tz"}

    del api.node.said[GREETING.hash.raw]
    await api.finish(GREETING.hash.raw)
    got = (await api.ask("GET", f"/v0/store/torz/{id}")).data
    assert got["status"] == "downloaded"
    assert list(got) == ["id", "hash", "name", "size", "status", "added_at", "files"]
    listed = (await api.ask("GET", "/v0/store/torz")).data
    assert listed == {"items": [{k: v for k, v in got.items() if k != "files"}], "total_items": 1}

    link = (await api.ask("POST", "/v0/store/torz/link/generate", {"link": got["files"][0]["link"]})).data["link"]
    assert link.startswith("http://torz.example:8679/v0/link/")
    assert link.endswith("/greeting.txt")
    assert (await api.ask("DELETE", f"/v0/store/torz/{id}")).json == {"data": {"id": id}}
    assert (await api.ask("GET", f"/v0/store/torz/{id}")).status == 404
    gone = await api.ask("GET", link.removeprefix("http://torz.example:8679"), user=None)
    assert gone.status == 410


HASH_FORMS = [
    "DB42AF2B6AE098558B98A14CD7874EF64162CAC8", "db42af2b6ae098558b98a14cd7874ef64162cac8",
    "3NBK6K3K4CMFLC4YUFGNPB2O6ZAWFSWI", "3nbk6k3k4cmflc4yufgnpb2o6zawfswi",
]  # fmt: skip


@pytest.mark.parametrize("form", HASH_FORMS)
async def test_every_form_of_a_hash_is_the_same_torz(api: Inside, form: str) -> None:
    links = [form, f"magnet:?xt=urn:btih:{form}", f"magnet:?xt=urn:btih:{form}".lower()]
    ids = {(await api.ask("POST", "/v0/store/torz", {"link": link})).data["id"] for link in links}
    assert len(ids) == 1
    [item] = (await api.ask("GET", f"/v0/store/torz/check?hash={form}")).data["items"]
    assert item == {
        "hash": HASH_FORMS[1], "magnet": f"magnet:?xt=urn:btih:{HASH_FORMS[1]}", "status": "unknown", "files": [],
    }  # fmt: skip


BAD_LINKS: list[tuple[Any, str]] = [
    ({}, "missing link"),
    ({"link": ""}, "missing link"),
    ({"link": "magnet:?xt=urn:btmh:1220" + "ab" * 32}, "invalid link"),
    ({"link": "magnet:?xt=urn:btih:zz"}, "invalid link"),
    ({"link": "z" * 40}, "invalid link"),
    ({"link": "0" * 40}, "invalid link"),
    ({"link": "ab" * 32}, "invalid link"),
    ({"link": "http://nowhere.example/a.torrent"}, "unable to fetch torrent file"),
]


@pytest.mark.parametrize(("body", "message"), BAD_LINKS)
async def test_a_link_that_cannot_be_added_is_named_with_a_sentence(api: Inside, body: Any, message: str) -> None:
    answer = await api.ask("POST", "/v0/store/torz", body)
    assert answer.status == 400
    assert answer.json["error"]["errors"] == [{"location": "link", "locationType": "body", "message": message}]
    assert answer.json["error"]["hint"].endswith(".")
    assert (await api.ask("GET", "/v0/store/torz")).data["total_items"] == 0


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"", "application/json", 400, "invalid payload"),
        (b"{", "application/json", 400, "invalid payload"),
        (b"[" * 100_000, "application/json", 400, "invalid payload"),
        (b'{"link": 7}', "application/json", 400, "invalid payload"),
        (b"[]", "application/json", 400, "invalid payload"),
        (b"\xff", "application/json", 400, "invalid payload"),
        (b"link=x", "application/x-www-form-urlencoded", 415, "Unsupported Media Type"),
        (b"x" * (1 << 21), "application/json", 413, "the body is too large"),
        (b"garbage", "multipart/form-data", 400, "invalid payload"),
        (b"garbage", "multipart/form-data; boundary=x", 400, "invalid payload"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    api: Inside, body: bytes, content_type: str, status: int, message: str
) -> None:
    answer = await api.ask("POST", "/v0/store/torz", body, headers={"Content-Type": content_type})
    assert (answer.status, answer.json["error"]["message"]) == (status, message)


async def test_members_count_in_any_case_and_what_follows_the_json_is_ignored(api: Inside) -> None:
    body = b'{"LINK": "' + HEX.encode() + b'", "more": 1} trailing'
    answer = await api.ask("POST", "/v0/store/torz", body, headers={"Content-Type": "text/x; application/json"})
    assert answer.status == 201


def form(*parts: tuple[str, str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A multipart body: name, file name, bytes."""
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (name.encode(), f'; filename="{file}"'.encode() if file else b"", data)
        for name, file, data in parts
    )
    return body + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(("path", "part"), [("/v0/store/torz", "file"), ("/v0/store/magnets", "torrent")])
async def test_an_uploaded_torrent_is_added_with_its_files(api: Inside, path: str, part: str) -> None:
    torrent = make_torrent("pack", {"a/b.mkv": b"x", "c.txt": b""}, private=True)
    answer = await api.ask("POST", path, *(f := form((part, "x.torrent", torrent.raw)))[:1], headers=f[1])
    assert answer.status == 201
    assert answer.data["private"] is True
    assert [(f["index"], f["path"], f["name"], f["size"]) for f in answer.data["files"]] == [
        (0, "/a/b.mkv", "b.mkv", 1),
        (1, "/c.txt", "c.txt", 0),
    ]
    assert answer.data["magnet"] == f"magnet:?xt=urn:btih:{torrent.hash}"


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ([("file", "", GREETING.raw)], 400, "missing torrent file"),
        ([("other", "x.torrent", GREETING.raw)], 400, "missing torrent file"),
        (
            [("file", "a", GREETING.raw), ("file", "b", GREETING.raw)],
            400,
            "multiple torrent files provided, only one allowed",
        ),
        ([("file", "a", b"<html>404</html>")], 400, "invalid torrent file"),
        ([("file", "a", b"x" * (1 << 20 | 1))], 413, "the body is too large"),
    ],
)
async def test_an_upload_that_is_no_torrent_is_refused(
    api: Inside, parts: list[tuple[str, str, bytes]], status: int, message: str
) -> None:
    body, headers = form(*parts)
    error = (answer := await api.ask("POST", "/v0/store/torz", body, headers=headers)).json["error"]
    assert answer.status == status
    assert message in (error["message"], *(item["message"] for item in error["errors"]))
    if message == "invalid torrent file":
        assert (error["message"], error["errors"]) == (message, [])


async def test_a_url_may_lead_to_a_torrent_or_to_a_magnet(api: Inside) -> None:
    api.fetcher.answers = {"https://a.example/x": GREETING.raw, "https://a.example/y": MAGNET + "&dn=x"}
    first = await api.ask("POST", "/v0/store/torz", {"link": "https://a.example/x"})
    second = await api.ask("POST", "/v0/store/magnets", {"torrent": "https://a.example/y"})
    assert first.data["id"] == second.data["id"]
    api.fetcher.answers["https://a.example/z"] = b"<html>not found</html>"
    third = await api.ask("POST", "/v0/store/torz", {"link": "https://a.example/z"})
    assert (third.status, third.json["error"]["message"], third.json["error"]["errors"]) == (
        400,
        "invalid torrent file",
        [],
    )


async def test_check_takes_hashes_repeated_joined_and_as_magnets_and_answers_each_once(api: Inside) -> None:
    others = [f"{n:040x}" for n in range(1, 4)]
    await api.ask("POST", "/v0/store/torz", {"link": HEX})
    query = f"hash={HEX.upper()},{others[0]}&hash={others[1]}%2C{HEX}&hash={MAGNET}&hash=nonsense&hash="
    items = (await api.ask("GET", f"/v0/store/torz/check?{query}")).data["items"]
    assert [item["hash"] for item in items] == [HEX]
    raw = f"magnet={MAGNET},{MAGNET}"
    assert len((await api.ask("GET", f"/v0/store/magnets/check?{raw}")).data["items"]) == 1


async def test_check_answers_in_the_order_asked(api: Inside) -> None:
    hashes = [f"{n:040x}" for n in (7, 3, 9, 1)]
    for hash in sorted(hashes):
        await api.ask("POST", "/v0/store/torz", {"link": hash})
    for _ in range(2):  # looked up, then remembered
        items = (await api.ask("GET", "/v0/store/torz/check?hash=" + ",".join(hashes))).data["items"]
        assert [item["hash"] for item in items] == hashes


@pytest.mark.parametrize(
    ("query", "message", "outer"),
    [
        ("", "missing hash", "Bad Request"),
        ("hash=", "missing hash", "missing hash"),
        ("hash=,", "missing hash", "missing hash"),
        ("hash=" + ",".join(["a" * 40] * 501), "too many hashes, max allowed 500", "too many hashes, max allowed 500"),
    ],
)
async def test_check_refuses_nothing_and_too_much(api: Inside, query: str, message: str, outer: str) -> None:
    answer = await api.ask("GET", f"/v0/store/torz/check?{query}")
    assert answer.status == 400
    assert (answer.json["error"]["message"], answer.json["error"]["errors"][0]["message"]) == (outer, message)


async def test_a_cached_torrent_is_told_with_its_files_until_it_is_gone(api: Inside) -> None:
    id = (await api.ask("POST", "/v0/store/torz", form(("file", "x", GREETING.raw))[0], headers=form()[1])).data["id"]
    check = f"/v0/store/torz/check?hash={HEX}&sid=tt0110912:1:2"
    assert (await api.ask("GET", check)).data["items"][0]["status"] == "unknown"
    await api.finish(GREETING.hash.raw)
    for _ in range(2):
        assert (await api.ask("GET", check, user="bob")).body == (
            b'{"data":{"items":[{"hash":"%(h)b","magnet":"magnet:?xt=urn:btih:%(h)b","name":"greeting.txt","status":"cached",'
            b'"files":[{"index":0,"path":"/greeting.txt","name":"greeting.txt","size":13,"source":"tz"}]}]}}\n'
            % {b"h": HEX.encode()}
        )
    assert (await api.ask("POST", "/v0/store/torz", {"link": HEX}, user="bob")).data["status"] == "downloaded"
    await api.ask("DELETE", f"/v0/store/torz/{id}")
    assert (await api.ask("GET", check)).data["items"][0]["status"] == "cached"  # bob still holds it


async def test_nobody_learns_of_somebody_elses_private_torrent(api: Inside) -> None:
    private = make_torrent("secret.mkv", private=True)
    body, headers = form(("file", "x", private.raw))
    await api.ask("POST", "/v0/store/torz", body, headers=headers)
    await api.finish(private.hash.raw)
    check = f"/v0/store/torz/check?hash={private.hash}"
    for _ in range(2):
        assert (await api.ask("GET", check)).data["items"][0]["status"] == "cached"
        assert (await api.ask("GET", check, user="bob")).data["items"] == []
    bob = (await api.ask("POST", "/v0/store/torz", {"link": str(private.hash)}, user="bob")).data
    assert (bob["status"], bob["name"], bob["size"], bob["files"]) == ("queued", "", -1, [])
    assert "private" not in bob
    assert "secret" not in str(bob)


async def test_another_users_torz_is_not_found(api: Inside) -> None:
    id = (await api.ask("POST", "/v0/store/torz", {"link": HEX})).data["id"]
    for method in ("GET", "DELETE"):
        assert (await api.ask(method, f"/v0/store/torz/{id}", user="bob")).status == 404


async def test_the_older_generation_speaks_its_own_words(api: Inside) -> None:
    assert (await api.ask("GET", "/v0/store/magnets?limit=9999")).status == 200
    for body, message in [({}, "missing magnet link"), ({"magnet": "zzz"}, "invalid link")]:
        answer = await api.ask("POST", "/v0/store/magnets", body)
        assert (answer.status, answer.json["error"]["message"]) == (400, message)
    for path in ("/v0/store/magnets", "/v0/store/link/generate"):
        empty = await api.ask("POST", path, b"", headers={"Content-Type": "application/json"})
        assert (empty.status, empty.json["error"]["message"]) == (400, "missing body")
    check = await api.ask("GET", "/v0/store/magnets/check")
    assert check.json["error"]["message"] == "missing magnet"
    assert (await api.ask("POST", "/v0/store/magnets/check", {})).status == 401
    unknown = await api.ask("GET", "/v0/store/user", headers={"X-StremThru-Store-Name": "nope"})
    assert (unknown.status, unknown.json["error"]["code"]) == (400, "STORE_NAME_INVALID")


async def test_an_unknown_store_is_named_on_the_torz_endpoints(api: Inside) -> None:
    answer = await api.ask("GET", "/v0/store/torz", headers={"X-StremThru-Store-Name": "nope"})
    assert answer.status == 400
    assert answer.json["error"]["code"] == "BAD_REQUEST"
    assert answer.json["error"]["errors"] == [
        {"domain": "store", "location": "X-StremThru-Store-Name", "locationType": "header", "message": "invalid store name"}
    ]  # fmt: skip
    assert "x-stremthru-store-name" not in answer.headers


async def test_refusals_say_how_to_get_in(api: Inside) -> None:
    missing = await api.ask("GET", "/v0/store/torz", user=None, headers={"X-StremThru-Store-Name": "torz"})
    assert missing.headers["www-authenticate"] == 'Bearer realm="store:torz"'
    assert missing.json["error"]["errors"] == [{"message": "Unauthorized"}]
    wrong = await api.ask("GET", "/v0/store/torz", user=None, headers={"X-StremThru-Authorization": "ann:wrong"})
    assert (wrong.status, wrong.json["error"]["message"]) == (401, "invalid credentials")
    assert wrong.headers["x-stremthru-authenticate"] == "Basic"
    token = {"X-StremThru-Store-Name": "torz", "X-StremThru-Store-Authorization": "Bearer ann:wrong"}
    assert (await api.ask("GET", "/v0/store/user", user=None, headers=token)).status == 401


@pytest.mark.parametrize(
    ("link", "status", "message"),
    [
        ("", 400, "missing link"),
        ("stremthru://store/torbox/NTow", 400, "invalid link"),
        ("stremthru://store/torz/!!", 400, "invalid link"),
        ("stremthru://store/torz/bm9wZQ==", 400, "invalid link"),
        ("https://example.com/a.mkv", 400, "invalid link"),
        ("stremthru://store/torz/bm9wZTow", 404, "torz not found"),
    ],
)
async def test_a_link_that_leads_nowhere_is_refused(api: Inside, link: str, status: int, message: str) -> None:
    for path in ("/v0/store/torz/link/generate", "/v0/store/link/generate"):
        answer = await api.ask("POST", path, {"link": link})
        assert answer.status == status
        error = answer.json["error"]
        assert message in (error["message"], *(item["message"] for item in error.get("errors", [])))


async def test_options_head_and_cors_work_without_credentials(api: Inside) -> None:
    preflight = await api.ask("OPTIONS", "/v0/store/torz", user=None)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "X-StremThru-Authorization" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await api.ask("HEAD", "/v0/store/torz")).status == 200
    refused = await api.ask("PUT", "/v0/store/torz")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert (await api.ask("PUT", "/v0/store/torz", user=None)).status == 400


async def test_paths_are_forgiving_about_slashes_and_strict_otherwise(api: Inside) -> None:
    assert (await api.ask("GET", "//v0//store/torz")).status == 200
    assert (await api.ask("GET", "/v0/./store/torz")).status == 200
    for path, key in [("/nope", "request_id"), ("/v0/store/torz/", "code"), ("/v0/store/torz/a/b", "code")]:
        answer = await api.ask("GET", path)
        assert answer.status == 404
        assert key in answer.json["error"]


async def test_every_answer_names_its_request(api: Inside) -> None:
    given = await api.ask("GET", "/nope", headers={"Request-ID": "mine"})
    assert given.headers["request-id"] == "mine"
    made = (await api.ask("GET", "/v0/health", user=None)).headers["request-id"]
    assert len(made) == 20
    assert set(made) <= set("0123456789abcdefghijklmnopqrstuv")


async def test_health_answers_any_method_and_tells_strangers_little(api: Inside) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        assert (await api.ask(method, "/v0/health", user=None)).json == {"data": {"status": "ok"}}
    anonymous = (await api.ask("GET", "/v0/health/__debug__", user=None)).data
    assert sorted(anonymous) == ["time", "version"]
    known = (await api.ask("GET", "/v0/health/__debug__")).data
    assert known["user"] == {"name": "ann", "store": {"default": "torz", "names": ["torz"]}}
    assert known["engine"]["alive"] is True
    api.node.alive = False
    assert "restarted" in (await api.ask("GET", "/v0/health/__debug__")).data["engine"]["problem"]


async def test_the_user_of_the_embedded_store_is_the_caller(api: Inside) -> None:
    assert (await api.ask("GET", "/v0/store/user")).data == {
        "id": "ann", "email": "", "subscription_status": "premium", "has_usenet": False,
    }  # fmt: skip


async def test_status_videos_are_served_with_ranges(api: Inside) -> None:
    whole = await api.ask("GET", "/v0/store/_/static/downloading.mp4", user=None)
    assert whole.headers["content-type"] == "video/mp4"
    part = await api.ask("GET", "/v0/store/_/static/downloading", user=None, headers={"Range": "bytes=4-7"})
    assert (part.status, part.body) == (206, b"ftyp")
    assert whole.body[4:8] == b"ftyp"
    assert (await api.ask("GET", "/v0/store/_/static/nope", user=None)).status == 404
    assert (await api.ask("GET", "/v0/store/_/static/..%2F__init__.py", user=None)).status == 404


async def test_a_store_without_ready_answers_is_checked_too(api: Inside) -> None:
    answer = await api.ask("GET", f"/v0/store/torz/check?hash={HEX},x", user=None, headers=REALDEBRID)
    assert answer.data["items"] == [{"hash": HEX, "magnet": MAGNET, "status": "unknown", "files": []}]


async def test_many_adds_of_one_torrent_at_once_are_one(api: Inside) -> None:
    answers = await asyncio.gather(*(api.ask("POST", "/v0/store/torz", {"link": HEX}) for _ in range(30)))
    assert len({answer.data["id"] for answer in answers}) == 1


async def test_an_unforeseen_failure_is_an_envelope_without_its_cause(api: Inside) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    api.app._exact["/v0/store/torz"].methods["GET"].handler = broken
    answer = await api.ask("GET", "/v0/store/torz")
    assert answer.status == 500
    assert answer.json["error"]["code"] == "INTERNAL_SERVER_ERROR"
    assert b"secret" not in answer.body
