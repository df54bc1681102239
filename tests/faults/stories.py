"""What users do, over HTTP without a socket; each story ends with an account as empty as before."""

from fakes import Answer, Inside
from torrents import GREETING, PIECE, make_torrent
from torz.http.typed import HungUp
from torz.ports.node import PieceMap
from torz.ports.repo import Layout, Place

DATA = bytes(n * 7 % 251 for n in range(2 * PIECE))
FILM = make_torrent("film.mkv", {"film.mkv": DATA})
HASH = FILM.hash.raw
TORZ = "/v0/store/torz"
UPLOAD = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--b--\r\n' % FILM.raw,
    {"Content-Type": "multipart/form-data; boundary=b"},
)


class Refused(Exception):
    """A step of a story was answered with a failure, as it may be."""


def expect(answer: Answer) -> Answer:
    """Success, or a failure that is documented: 503 and 500 in an envelope that tells nothing of our insides."""
    if answer.status >= 300:
        assert answer.status in (500, 503), (answer.status, answer.body)
        error = answer.json["error"]
        assert error["message"]
        for inside in (b"apsw", b"Traceback", b"sqlite", b"torz.db", b".py"):
            assert inside not in answer.body
        raise Refused(answer.status)
    return answer


async def whole_story(api: Inside) -> None:
    """Upload, add again, look, check, get a link, read a finished file, remove: everything right, or Refused."""
    body, headers = UPLOAD
    added = expect(await api.ask("POST", TORZ, body, headers=headers)).data
    again = expect(await api.ask("POST", TORZ, {"link": str(FILM.hash)})).data
    assert again["id"] == added["id"]
    other = expect(await api.ask("POST", TORZ, {"link": str(GREETING.hash)})).data
    listed = expect(await api.ask("GET", TORZ)).data
    assert {item["id"] for item in listed["items"]} == {added["id"], other["id"]}
    assert listed["total_items"] == 2
    expect(await api.ask("DELETE", f"{TORZ}/{other['id']}"))
    got = expect(await api.ask("GET", f"{TORZ}/{added['id']}")).data
    assert got["files"][0]["size"] == len(DATA)
    [item] = expect(await api.ask("GET", f"{TORZ}/check?hash={FILM.hash}")).data["items"]
    assert item["hash"] == str(FILM.hash)
    link = expect(await api.ask("POST", f"{TORZ}/link/generate", {"link": got["files"][0]["link"]})).data["link"]
    await read(api, link)
    expect(await api.ask("DELETE", f"{TORZ}/{added['id']}"))
    assert expect(await api.ask("GET", TORZ)).data == {"items": [], "total_items": 0}


async def read(api: Inside, link: str) -> None:
    """The right bytes, or none that are wrong."""
    try:
        answer = await api.ask("GET", link.removeprefix("http://torz.example:8679"), user=None)
    except HungUp as exc:
        raise Refused from exc
    assert expect(answer).body == DATA


async def prepare(api: Inside, *, complete: bool) -> None:
    """What the node does: metadata learnt, files laid out and written, here by hand."""
    await api.node_repo.learn(FILM, HASH)
    folder = api.root / HASH.hex()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "film.mkv").write_bytes(DATA)
    await api.node_repo.lay_out(HASH, Layout(PIECE, [Place(0, "film.mkv", 0, len(DATA))]))
    api.node.maps[HASH] = PieceMap(PIECE, 2, b"\xc0")
    if complete:
        await api.finish(HASH)


async def tidy(api: Inside) -> None:
    """Remove whatever a broken story has left."""
    for item in (await api.ask("GET", TORZ)).data["items"]:
        assert (await api.ask("DELETE", f"{TORZ}/{item['id']}")).status == 200
