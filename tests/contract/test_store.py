"""What every store promises. One suite; a store joins it with one more rig in RIGS."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from fakes import FakeNode
from torrents import GREETING, make_torrent
from torz.db.accounts import SqliteTorzRepo
from torz.db.nodes import SqliteNodeRepo
from torz.db.sqlite import Database
from torz.domain.bencode import encode
from torz.domain.errors import InvalidLink, TorzNotFound, Unsupported
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import Subscription, TorzStatus
from torz.ports.clock import SystemClock
from torz.ports.node import Changed
from torz.ports.store import ChecksEncoded, Store
from torz.stores.embedded import EmbeddedStore
from torz.stores.memory import Memory

pytestmark = pytest.mark.anyio

PACK = make_torrent("Pack", {"b/film.mkv": b"film" * 9000, "a.txt": b"text", "empty": b"", "c/ü.srt": b"1"})
SECRET = make_torrent("Secret", {"mine.mkv": b"mine"}, private=True)
CACHED = (GREETING, PACK)
"""What each place has, complete, before a test begins."""
NEVER_SEEN = InfoHash(b"\7" * 20)
_COMING = (TorzStatus.QUEUED, TorzStatus.DOWNLOADING, TorzStatus.PROCESSING)


@dataclass
class Rig:
    """A store that holds CACHED for everybody, and a second account at the same place."""

    store: Store
    stranger: Store


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[Rig]:
    yield Rig(Memory(CACHED), Memory(CACHED))


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Rig]:
    database = Database(folder / "torz.db")
    await database.open()
    try:
        node, rows = FakeNode(), SqliteNodeRepo(database)
        place = EmbeddedStore(SqliteTorzRepo(database), node, SystemClock(), bytes(32), 1 << 20)
        for torrent in CACHED:
            await place.account("somebody").add(torrent)
            await rows.complete(torrent.hash.short.raw, 1)
            node.say(Changed(torrent.hash.short.raw))
        yield Rig(place.account("ann"), place.account("bob"))
    finally:
        await database.aclose()


RIGS: dict[str, Callable[[Path], AbstractAsyncContextManager[Rig]]] = {"memory": memory, "embedded": embedded}


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with RIGS[request.param](tmp_path) as made:
        yield made


def needs_torrent_files(rig: Rig) -> None:
    if not rig.store.features.takes_torrent_file:
        pytest.skip("this store takes no torrent files; that it says so is tested")


async def test_the_user_is_named_and_has_a_subscription(rig: Rig) -> None:
    user = await rig.store.user()
    assert user.id
    assert user.subscription in Subscription


async def test_adding_twice_is_adding_once(rig: Rig) -> None:
    first = await rig.store.add(GREETING.magnet)
    again = await rig.store.add(GREETING.magnet)
    assert again.id == first.id
    assert (await rig.store.list(10, 0)).total == 1


async def test_a_magnet_with_hints_a_bare_hash_and_a_file_are_the_same_torz(rig: Rig) -> None:
    first = await rig.store.add(Magnet(hash=GREETING.hash, name="Other name", trackers=("http://t.example/a",)))
    assert (await rig.store.add(Magnet(hash=GREETING.hash))).id == first.id
    if rig.store.features.takes_torrent_file:
        assert (await rig.store.add(GREETING)).id == first.id


async def test_what_the_place_has_is_downloaded_at_once_with_all_its_files(rig: Rig) -> None:
    added = await rig.store.add(PACK.magnet)
    assert added.status is TorzStatus.DOWNLOADED
    assert (added.hash, added.name, added.size, added.private) == (PACK.hash, "Pack", 36_005, False)
    assert added.added_at is not None
    assert added.added_at.utcoffset() is not None
    assert [(f.index, f.path, f.name, f.size) for f in added.files] == [
        (0, "/b/film.mkv", "film.mkv", 36_000),
        (1, "/a.txt", "a.txt", 4),
        (2, "/empty", "empty", 0),
        (3, "/c/ü.srt", "ü.srt", 1),
    ]
    assert len({f.link for f in added.files} - {""}) == 4


async def test_a_torrent_of_one_file_has_its_name_below_the_root(rig: Rig) -> None:
    [file] = (await rig.store.add(GREETING.magnet)).files
    assert (file.index, file.path, file.size) == (0, "/greeting.txt", 13)


async def test_what_the_place_does_not_have_is_on_its_way_and_of_unknown_size(rig: Rig) -> None:
    added = await rig.store.add(Magnet(hash=NEVER_SEEN, name="Soon"))
    assert added.status in _COMING
    assert (added.hash, added.name, added.size, added.files) == (NEVER_SEEN, "Soon", None, ())


async def test_get_says_what_add_said(rig: Rig) -> None:
    added = await rig.store.add(PACK.magnet)
    assert await rig.store.get(added.id) == added


async def test_a_torrent_file_tells_its_files_before_they_are_there_or_is_not_supported(rig: Rig) -> None:
    torrent = make_torrent("New", {"x.mkv": b"x"})
    if not rig.store.features.takes_torrent_file:
        with pytest.raises(Unsupported):
            await rig.store.add(torrent)
        assert (await rig.store.list(10, 0)).total == 0
        return
    added = await rig.store.add(torrent)
    assert added.status in _COMING
    assert [(f.index, f.path, f.size) for f in added.files] == [(0, "/x.mkv", 1)]


async def test_the_list_is_empty_at_first(rig: Rig) -> None:
    page = await rig.store.list(10, 0)
    assert (page.items, page.total) == ((), 0)


async def test_the_list_is_newest_first_in_pages_with_a_true_total(rig: Rig) -> None:
    ids = [(await rig.store.add(Magnet(hash=InfoHash(bytes([n]) * 20)))).id for n in range(1, 8)]
    newest = ids[::-1]
    for limit, offset in [(100, 0), (3, 0), (3, 3), (3, 6), (1, 6), (3, 7), (3, 1 << 62)]:
        page = await rig.store.list(limit, offset)
        assert [one.id for one in page.items] == newest[offset : offset + limit]
        assert page.total == 7


async def test_the_list_says_of_each_what_get_says_but_its_files(rig: Rig) -> None:
    await rig.store.add(PACK.magnet)
    [item] = (await rig.store.list(10, 0)).items
    assert item == msgspec.structs.replace(await rig.store.get(item.id), files=())


async def test_adding_again_does_not_move_it_to_the_front(rig: Rig) -> None:
    first = await rig.store.add(GREETING.magnet)
    second = await rig.store.add(PACK.magnet)
    await rig.store.add(GREETING.magnet)
    assert [one.id for one in (await rig.store.list(10, 0)).items] == [second.id, first.id]


@pytest.mark.parametrize("id", ["nope", "", "0", "-1", "../etc", "a\x00b", "ü" * 3, "x" * 5000, "' or 1=1 --"])
async def test_an_id_that_is_none_is_not_found(rig: Rig, id: str) -> None:
    await rig.store.add(GREETING.magnet)
    for ask in (rig.store.get, rig.store.remove):
        with pytest.raises(TorzNotFound):
            await ask(id)
    assert (await rig.store.list(10, 0)).total == 1


async def test_what_is_removed_is_not_found_and_can_be_added_again(rig: Rig) -> None:
    added = await rig.store.add(GREETING.magnet)
    kept = await rig.store.add(PACK.magnet)
    await rig.store.remove(added.id)
    for ask in (rig.store.get, rig.store.remove):
        with pytest.raises(TorzNotFound):
            await ask(added.id)
    assert [one.id for one in (await rig.store.list(10, 0)).items] == [kept.id]
    again = await rig.store.add(GREETING.magnet)
    assert (await rig.store.get(again.id)).hash == GREETING.hash


async def test_what_is_somebody_elses_is_not_found_and_stays(rig: Rig) -> None:
    added = await rig.store.add(GREETING.magnet)
    for ask in (rig.stranger.get, rig.stranger.remove):
        with pytest.raises(TorzNotFound):
            await ask(added.id)
    with pytest.raises((TorzNotFound, InvalidLink)):
        await rig.stranger.link(added.files[0].link, None)
    assert (await rig.stranger.list(10, 0)).total == 0
    assert await rig.store.get(added.id) == added


async def test_removing_from_one_account_takes_nothing_from_another(rig: Rig) -> None:
    mine, theirs = await rig.store.add(PACK.magnet), await rig.stranger.add(PACK.magnet)
    await rig.store.remove(mine.id)
    assert await rig.stranger.get(theirs.id) == theirs
    assert (await rig.stranger.check([PACK.hash]))[0].status is TorzStatus.CACHED


async def test_a_check_tells_what_is_cached_with_its_files_and_without_links(rig: Rig) -> None:
    [check] = await rig.store.check([PACK.hash])
    assert (check.hash, check.status, check.name) == (PACK.hash, TorzStatus.CACHED, "Pack")
    assert [(f.index, f.path, f.size) for f in check.files] == [(f.index, f.path, f.size) for f in PACK.visible]
    assert {f.link for f in check.files} == {""}


async def test_a_check_answers_in_the_order_asked_and_each_hash_once(rig: Rig) -> None:
    for asked in ([GREETING.hash, PACK.hash], [PACK.hash, GREETING.hash, PACK.hash]):
        found = await rig.store.check([NEVER_SEEN, *asked])
        cached = [check.hash for check in found if check.status is TorzStatus.CACHED]
        assert cached == list(dict.fromkeys(asked))
        assert len({check.hash for check in found}) == len(found)


async def test_what_is_not_known_is_left_out_or_a_known_miss(rig: Rig) -> None:
    for check in await rig.store.check([NEVER_SEEN]):
        assert (check.hash, check.status, check.files) == (NEVER_SEEN, TorzStatus.UNKNOWN, ())
    assert list(await rig.store.check([])) == []


async def test_a_check_changes_no_account(rig: Rig) -> None:
    await rig.store.check([GREETING.hash, NEVER_SEEN])
    assert (await rig.store.list(10, 0)).total == 0


async def test_a_check_of_five_hundred_finds_the_two_that_are_there(rig: Rig) -> None:
    hashes = [InfoHash(n.to_bytes(20, "big")) for n in range(1, 499)]
    found = await rig.store.check([GREETING.hash, *hashes, PACK.hash])
    assert [c.hash for c in found if c.status is TorzStatus.CACHED] == [GREETING.hash, PACK.hash]


async def test_ready_answers_say_the_same_for_every_form_and_drop_what_is_malformed(rig: Rig) -> None:
    if not isinstance(rig.store, ChecksEncoded):
        pytest.skip("this store keeps no ready answers")
    texts = [str(PACK.hash).upper(), "nonsense", f"magnet:?xt=urn:btih:{GREETING.hash}", str(PACK.hash), "", "z" * 40]
    looked_up = await rig.store.check_encoded(texts)
    assert [msgspec.json.decode(item)["hash"] for item in looked_up] == [str(PACK.hash), str(GREETING.hash)]
    plain = [str(PACK.hash), str(GREETING.hash)]
    assert rig.store.check_known(plain) in (None, looked_up)
    assert await rig.store.check_encoded(plain) == looked_up


async def test_every_file_has_a_link_that_leads_somewhere_of_its_own(rig: Rig) -> None:
    files = (await rig.store.add(PACK.magnet)).files
    links = [await rig.store.link(file.link, None) for file in files]
    assert len(set(links)) == len(files)
    for file, link in zip(files, links, strict=True):
        if rig.store.features.signs_links:
            token, _, name = link.partition("/")
            assert token
            assert name == file.name
        else:
            assert link.startswith(("https://", "http://"))


@pytest.mark.parametrize(
    "link",
    [
        "",
        "nonsense",
        "https://example.com/a.mkv",
        "stremthru://store/nowhere/NTow",
        "stremthru://store/torz/%%%",
        "\ud800",
    ],
)
async def test_a_link_of_another_shape_is_invalid(rig: Rig, link: str) -> None:
    with pytest.raises(InvalidLink):
        await rig.store.link(link, None)


async def test_a_link_of_what_was_removed_is_not_found(rig: Rig) -> None:
    added = await rig.store.add(GREETING.magnet)
    await rig.store.remove(added.id)
    with pytest.raises(TorzNotFound):
        await rig.store.link(added.files[0].link, None)


async def test_private_is_said_in_add_get_and_list_and_to_nobody_else(rig: Rig) -> None:
    needs_torrent_files(rig)
    added = await rig.store.add(SECRET)
    [listed] = (await rig.store.list(10, 0)).items
    assert (added.private, (await rig.store.get(added.id)).private, listed.private) == (True, True, True)
    for check in await rig.stranger.check([SECRET.hash]):
        assert (check.status, check.name, check.files) == (TorzStatus.UNKNOWN, "", ())
    guessed = await rig.stranger.add(Magnet(hash=SECRET.hash))
    assert (guessed.status in _COMING, guessed.private, guessed.name, guessed.files) == (True, False, "", ())


async def test_a_private_torrent_is_forgotten_with_its_last_owner(rig: Rig) -> None:
    needs_torrent_files(rig)
    added = await rig.store.add(SECRET)
    await rig.store.remove(added.id)
    guessed = await rig.store.add(Magnet(hash=SECRET.hash))
    assert (guessed.private, guessed.name, guessed.files) == (False, "", ())


async def test_hidden_files_are_not_shown_and_do_not_shift_the_index(rig: Rig) -> None:
    needs_torrent_files(rig)
    added = await rig.store.add(_with_padding())
    assert [(f.index, f.path) for f in added.files] == [(0, "/a.mkv"), (2, "/b.mkv")]
    assert added.size == 20


def _with_padding() -> Torrent:
    files = [
        {b"length": 10, b"path": [b"a.mkv"]},
        {b"attr": b"p", b"length": 16374, b"path": [b".pad", b"16374"]},
        {b"length": 10, b"path": [b"b.mkv"]},
    ]
    return Torrent.parse(
        encode({b"info": {b"files": files, b"name": b"Padded", b"piece length": 16384, b"pieces": bytes(40)}})
    )
