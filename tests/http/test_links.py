"""Direct links: ranges, validators, headers, and files that are still growing."""

import asyncio
import email
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakes import Answer, Inside, inside
from torrents import PIECE, make_torrent
from torz.domain.torz import TorzStatus
from torz.http.links import disposition, media_type
from torz.http.typed import HungUp
from torz.ports.node import Durable, Lost, PieceMap, Read, Unread, Unwatch, Watch
from torz.ports.repo import Layout, Place

pytestmark = pytest.mark.anyio
DATA = bytes(i * 7 % 251 for i in range(3 * PIECE + 100))
MOVIE = make_torrent("Ein schöner Film – 1.mkv", {"a/x.nfo": b"n" * 10, "Ein schöner Film.mkv": DATA, "none.txt": b""})
HASH = MOVIE.hash.raw
OFFSET = 10


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path, patience=0.4) as made:
        yield made


async def link_to(api: Inside, index: int = 1, *, finished: bool = True) -> str:
    await api.node_repo.learn(MOVIE, HASH)
    id = (await api.ask("POST", "/v0/store/torz", {"link": str(MOVIE.hash)})).data["id"]
    await api.node_repo.learn(MOVIE, HASH)
    places = [Place(0, "a/x.nfo", 0, 10), Place(1, "film.mkv", 10, len(DATA)), Place(2, "none.txt", 10 + len(DATA), 0)]
    await api.node_repo.lay_out(HASH, Layout(PIECE, places))
    folder = api.root / HASH.hex()
    (folder / "a").mkdir(parents=True, exist_ok=True)
    (folder / "a" / "x.nfo").write_bytes(b"n" * 10)
    (folder / "none.txt").write_bytes(b"")
    (folder / "film.mkv").write_bytes(DATA if finished else bytes(len(DATA)))
    if finished:
        await api.finish(HASH)
    file = (await api.ask("GET", f"/v0/store/torz/{id}")).data["files"][index]
    link: str = (await api.ask("POST", "/v0/store/torz/link/generate", {"link": file["link"]})).data["link"]
    return link.removeprefix("http://torz.example:8679")


async def fetch(api: Inside, link: str, method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.ask(method, link, user=None, headers=named)


async def test_a_whole_file_comes_with_everything_a_player_needs(api: Inside) -> None:
    answer = await fetch(api, await link_to(api))
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["content-type"] == "video/x-matroska"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == (
        "inline; filename=\"Ein sch_ner Film.mkv\"; filename*=UTF-8''Ein%20sch%C3%B6ner%20Film.mkv"
    )
    assert answer.headers["last-modified"].endswith("GMT")
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("range", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-", 100, len(DATA)), ("bytes=-7", len(DATA) - 7, len(DATA)),
     ("bytes=5-999999999", 5, len(DATA)), ("bytes=-999999999", 0, len(DATA)), ("bytes=16370-16400", 16370, 16401)],
)  # fmt: skip
async def test_one_range_is_a_part(api: Inside, range: str, start: int, end: int) -> None:
    answer = await fetch(api, await link_to(api), Range=range)
    assert (answer.status, answer.body) == (206, DATA[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"


async def test_several_ranges_are_parts_of_a_multipart_answer(api: Inside) -> None:
    answer = await fetch(api, await link_to(api), Range="bytes=0-4, 100-109,-3")
    assert answer.status == 206
    assert answer.headers["content-length"] == str(len(answer.body))
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts: list[Any] = email.message_from_bytes(head + answer.body).get_payload()
    assert [p.get_payload(decode=True) for p in parts] == [DATA[0:5], DATA[100:110], DATA[-3:]]
    assert parts[0]["Content-Range"] == f"bytes 0-4/{len(DATA)}"


@pytest.mark.parametrize("range", [f"bytes={len(DATA)}-", "bytes=-0"])
async def test_a_range_behind_the_end_is_416_with_the_size(api: Inside, range: str) -> None:
    answer = await fetch(api, await link_to(api), Range=range)
    assert (answer.status, answer.body, answer.headers["content-range"]) == (416, b"", f"bytes */{len(DATA)}")


@pytest.mark.parametrize("range", ["bytes=5-1", "lines=1-2", "bytes=a-b", "bytes=", "nonsense", "bytes=" + "0-1," * 50])
async def test_a_range_that_makes_no_sense_is_ignored(api: Inside, range: str) -> None:
    assert (await fetch(api, await link_to(api), Range=range)).status == 200


async def test_validators_decide_between_304_a_part_and_the_whole(api: Inside) -> None:
    link = await link_to(api)
    first = await fetch(api, link)
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    assert (await fetch(api, link, If_None_Match=f'"x", W/{etag}')).status == 304
    assert (await fetch(api, link, If_None_Match='"x"', If_Modified_Since=modified)).status == 200
    assert (await fetch(api, link, If_Modified_Since=modified)).status == 304
    assert (await fetch(api, link, If_Modified_Since="Thu, 01 Jan 1970 00:00:00 GMT")).status == 200
    for same in (etag, modified):
        assert (await fetch(api, link, Range="bytes=1-2", If_Range=same)).status == 206
    for other in ('"x"', f"W/{etag}", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"):
        assert (await fetch(api, link, Range="bytes=1-2", If_Range=other)).status == 200


async def test_head_says_the_same_without_the_bytes(api: Inside) -> None:
    link = await link_to(api)
    answer = await fetch(api, link, "HEAD", Range="bytes=0-9")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (206, b"", "10")
    assert (await fetch(api, link, "HEAD")).headers["content-length"] == str(len(DATA))


async def test_an_empty_file_is_empty(api: Inside) -> None:
    answer = await fetch(api, await link_to(api, 2))
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


async def test_a_forged_an_expired_and_a_revoked_link_are_refused(api: Inside) -> None:
    link = await link_to(api)
    token = link.split("/")[3]
    for forged in ("x", token[:-1] + ("A" if token[-1] != "A" else "B"), "A" * 60, "é", "a" * 100_000):
        assert (await fetch(api, f"/v0/link/{forged}/x.mkv")).status == 400
    assert (await fetch(api, f"/v0/link/{token}")).status == 200
    id = (await api.ask("GET", "/v0/store/torz")).data["items"][0]["id"]
    await api.ask("DELETE", f"/v0/store/torz/{id}")
    assert (await fetch(api, link)).status == 410


async def test_a_file_that_is_not_where_it_should_be_is_404_and_no_link_is_followed(
    api: Inside, tmp_path: Path
) -> None:
    link = await link_to(api)
    film = api.root / HASH.hex() / "film.mkv"
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    film.unlink()
    assert (await fetch(api, link)).status == 404
    film.symlink_to(secret)
    assert (await fetch(api, link)).status == 404
    film.unlink()
    film.write_bytes(DATA[:-1])
    assert (await fetch(api, link)).status == 404


async def test_a_growing_file_is_sent_as_its_pieces_arrive(api: Inside) -> None:
    link = await link_to(api, finished=False)
    api.node.maps[HASH] = PieceMap(PIECE, 4, b"\x00")
    asked = asyncio.create_task(fetch(api, link))
    film = (api.root / HASH.hex() / "film.mkv").open("r+b")
    for piece in (2, 0, 1, 3):
        await asyncio.sleep(0.05)
        start = max(0, piece * PIECE - OFFSET)
        film.seek(start)
        film.write(DATA[start : (piece + 1) * PIECE - OFFSET])
        film.flush()
        api.node.say(Durable(HASH, [piece]))
    answer = await asked
    film.close()
    assert answer.body == DATA
    reads = [c for c in api.node.commands if isinstance(c, Read)]
    assert (reads[0].start, reads[0].stop) == (OFFSET, OFFSET + len(DATA))
    assert [c for c in api.node.commands if isinstance(c, Unread | Unwatch)] == [Unread(reads[0].reader), Unwatch(HASH)]


async def test_a_read_that_waits_too_long_is_503_with_when_to_come_back(api: Inside) -> None:
    link = await link_to(api, finished=False)
    api.node.maps[HASH] = PieceMap(PIECE, 4, b"\x00")
    answer = await fetch(api, link, Range="bytes=0-9")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    del api.node.maps[HASH]
    assert (await fetch(api, link)).status == 503


async def test_an_answer_that_cannot_go_on_is_cut_and_never_padded(api: Inside) -> None:
    link = await link_to(api, finished=False)
    api.node.maps[HASH] = PieceMap(PIECE, 4, b"\x80")
    with pytest.raises(HungUp):
        await fetch(api, link)


async def test_a_reader_follows_its_torrent_through_a_restart_of_the_node_to_completion(api: Inside) -> None:
    link = await link_to(api, finished=False)
    api.node.maps[HASH] = PieceMap(PIECE, 4, b"\x00")
    asked = asyncio.create_task(fetch(api, link))
    await asyncio.sleep(0.05)
    api.node.alive = False
    api.node.say(None)
    await asyncio.sleep(0.05)
    (api.root / HASH.hex() / "film.mkv").write_bytes(DATA)
    api.node.alive = True
    await api.finish(HASH)
    api.node.say(Lost(HASH))
    assert (await asked).body == DATA


async def test_a_failed_download_says_why(api: Inside) -> None:
    link = await link_to(api, finished=False)
    await api.node_repo.set_status(HASH, TorzStatus.FAILED, "The disk broke.")
    answer = await fetch(api, link)
    assert answer.status == 503
    assert answer.json["error"]["message"] == "The disk broke."


async def test_removal_ends_a_reader_that_waits(api: Inside) -> None:
    link = await link_to(api, finished=False)
    api.node.maps[HASH] = PieceMap(PIECE, 4, b"\x00")
    asked = asyncio.create_task(fetch(api, link))
    await asyncio.sleep(0.05)
    id = (await api.ask("GET", "/v0/store/torz")).data["items"][0]["id"]
    await api.ask("DELETE", f"/v0/store/torz/{id}")
    api.node.say(Lost(HASH))
    assert (await asked).status == 410
    assert Watch(HASH) in api.node.commands


@pytest.mark.parametrize(
    ("name", "type"),
    [("a.mkv", "video/x-matroska"), ("a.MP4", "video/mp4"), ("a.srt", "application/x-subrip"), ("a.html", "application/octet-stream"),
     ("a.svg", "application/octet-stream"), ("a", "application/octet-stream"), ("a.pdf", "application/pdf"), ("a.ts", "video/mp2t")],
)  # fmt: skip
def test_media_types_are_those_of_players_and_never_run_in_a_browser(name: str, type: str) -> None:
    assert media_type(name) == type


def test_a_hostile_name_cannot_break_out_of_its_header() -> None:
    assert disposition('a"\\\r\n%00.mkv').split(";")[1] == ' filename="a_____00.mkv"'
