"""Who holds what, what a node is to have, and what is known: over a real SQLite file."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from torrents import GREETING, make_torrent
from torz.db import torrents
from torz.db.accounts import SqliteTorzRepo
from torz.db.nodes import SqliteNodeRepo
from torz.db.secrets import SqliteSecretRepo
from torz.db.sqlite import Database, DatabaseRefused
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet
from torz.domain.torz import TorzStatus
from torz.ports.repo import Layout, Place

pytestmark = pytest.mark.anyio
HASH = GREETING.hash.raw
PRIVATE = make_torrent("private.mkv", private=True, trackers=("http://tracker.example/passkey1/announce",))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "torz.db")
    await database.open()
    yield database
    await database.aclose()


@pytest.fixture
def held(database: Database) -> SqliteTorzRepo:
    return SqliteTorzRepo(database)


@pytest.fixture
def node(database: Database) -> SqliteNodeRepo:
    return SqliteNodeRepo(database)


async def test_adding_twice_is_adding_once(held: SqliteTorzRepo) -> None:
    first = await held.add("ann", GREETING, 1)
    assert await held.add("ann", Magnet(hash=GREETING.hash), 2) == first
    assert (await held.list("ann", 10, 0))[1] == 1


async def test_accounts_share_a_torrent_and_not_their_torz(held: SqliteTorzRepo, node: SqliteNodeRepo) -> None:
    ann, bob = await held.add("ann", GREETING, 1), await held.add("bob", GREETING, 2)
    assert ann != bob
    assert await held.get("ann", bob) is None
    assert await held.remove("bob", ann) is None
    assert len(await node.desired(0)) == 1
    await held.remove("ann", ann)
    assert (await node.desired(0))[0].wanted
    await held.remove("bob", bob)
    assert not (await node.desired(0))[0].wanted


async def test_the_newest_comes_first_also_within_a_second(held: SqliteTorzRepo) -> None:
    ids = [await held.add("ann", Magnet(hash=InfoHash(bytes([n]) * 20)), 7) for n in range(1, 6)]
    page, total = await held.list("ann", 2, 1)
    assert [one.id for one in page] == ids[::-1][1:3]
    assert total == 5


async def test_a_magnet_is_known_without_metadata_and_learns_it_from_the_swarm(
    held: SqliteTorzRepo, node: SqliteNodeRepo
) -> None:
    id = await held.add("ann", Magnet(hash=GREETING.hash, name="as ann calls it"), 1)
    before = await held.get("ann", id)
    assert before
    assert (before.name, before.size, before.files, before.status) == ("as ann calls it", None, None, TorzStatus.QUEUED)
    await node.learn(GREETING, HASH)
    after = await held.get("ann", id)
    assert after
    assert (after.name, after.size) == ("greeting.txt", 13)
    assert after.files == b'[{"index":0,"path":"/greeting.txt","name":"greeting.txt","size":13,"source":"tz"}]'
    assert await node.metainfo(HASH) == GREETING.raw


async def test_what_is_complete_is_downloaded_at_once_for_the_next(held: SqliteTorzRepo, node: SqliteNodeRepo) -> None:
    await held.add("ann", GREETING, 1)
    await node.complete(HASH, 5)
    bob = await held.get("bob", await held.add("bob", Magnet(hash=GREETING.hash), 6))
    assert bob
    assert bob.complete
    assert bob.status is TorzStatus.DOWNLOADED
    assert [(one.complete, one.name) for one in await held.known([HASH, bytes(20)])] == [(True, "greeting.txt")]


async def test_a_private_torrent_is_told_only_to_those_who_showed_it(
    held: SqliteTorzRepo, node: SqliteNodeRepo
) -> None:
    hash = PRIVATE.hash.raw
    await held.add("ann", PRIVATE, 1)
    await node.complete(hash, 2)
    eve = await held.get("eve", await held.add("eve", Magnet(hash=PRIVATE.hash), 3))
    assert eve
    assert (eve.visible, eve.name, eve.size, eve.files, eve.complete, eve.private) == (
        False,
        "",
        None,
        None,
        False,
        False,
    )
    assert await held.holds("eve", [hash]) == set()
    assert await held.holds("ann", [hash]) == {hash}
    bob = await held.get("bob", await held.add("bob", PRIVATE, 4))
    assert bob
    assert bob.complete


async def test_trackers_are_shared_for_public_torrents_only(held: SqliteTorzRepo, node: SqliteNodeRepo) -> None:
    await held.add("ann", Magnet(hash=GREETING.hash, trackers=("http://a.example/announce",)), 1)
    await held.add("bob", Magnet(hash=GREETING.hash, trackers=("http://b.example/announce",)), 1)
    await held.add("ann", PRIVATE, 1)
    await held.add("bob", Magnet(hash=PRIVATE.hash, trackers=("http://b.example/announce",)), 1)
    wanted = {one.hash: Magnet.parse(one.magnet).trackers for one in await node.desired(0)}
    assert wanted[HASH] == ("http://a.example/announce", "http://b.example/announce")
    assert wanted[PRIVATE.hash.raw] == PRIVATE.trackers


async def test_what_is_known_of_a_private_torrent_goes_with_its_last_holder(
    held: SqliteTorzRepo, node: SqliteNodeRepo
) -> None:
    hash = PRIVATE.hash.raw
    ann = await held.add("ann", PRIVATE, 1)
    eve = await held.add("eve", Magnet(hash=PRIVATE.hash), 3)
    await held.remove("ann", ann)
    assert await node.metainfo(hash) is None
    assert await held.known([hash]) == []
    [row] = await node.desired(0)
    assert not row.wanted
    assert await node.forget(hash, row.revision)
    [anew] = await node.desired(0)  # eve still waits for it, with the bare hash
    assert anew.wanted
    assert Magnet.parse(anew.magnet).trackers == ()
    assert await held.get("eve", eve)


async def test_forgetting_gives_way_to_being_wanted_again(held: SqliteTorzRepo, node: SqliteNodeRepo) -> None:
    await held.remove("ann", await held.add("ann", GREETING, 1))
    [gone] = await node.desired(0)
    await held.add("ann", GREETING, 2)
    assert not await node.forget(HASH, gone.revision)
    [back] = await node.desired(gone.revision)
    assert back.wanted


async def test_a_row_that_comes_back_is_newer_than_the_one_that_went(
    held: SqliteTorzRepo, node: SqliteNodeRepo
) -> None:
    await held.remove("ann", await held.add("ann", GREETING, 1))
    [gone] = await node.desired(0)
    assert await node.forget(HASH, gone.revision)
    await held.add("ann", GREETING, 2)
    [back] = await node.desired(gone.revision)
    assert back.revision > gone.revision


async def test_what_was_let_go_and_taken_back_in_time_is_still_cached(
    held: SqliteTorzRepo, node: SqliteNodeRepo
) -> None:
    id = await held.add("ann", GREETING, 1)
    await node.complete(HASH, 1)
    await held.remove("ann", id)
    assert not (await held.known([HASH]))[0].complete
    await held.add("bob", GREETING, 2)
    assert (await held.known([HASH]))[0].complete


async def test_any_other_status_ends_completeness(held: SqliteTorzRepo, node: SqliteNodeRepo) -> None:
    id = await held.add("ann", GREETING, 1)
    await node.complete(HASH, 1)
    await node.synced(HASH)
    assert (await node.desired(0))[0].synced
    await node.set_status(HASH, TorzStatus.FAILED, "Its files are gone.")
    one = await held.get("ann", id)
    assert one
    assert (one.complete, one.status, one.message) == (False, TorzStatus.FAILED, "Its files are gone.")
    assert not (await node.desired(0))[0].synced
    assert not (await held.known([HASH]))[0].complete


async def test_a_layout_is_kept_while_the_torrent_is_wanted(held: SqliteTorzRepo, node: SqliteNodeRepo) -> None:
    id = await held.add("ann", GREETING, 1)
    layout = Layout(16384, [Place(0, "greeting.txt", 0, 13)])
    await node.lay_out(HASH, layout)
    assert await held.layout(HASH) == layout
    await held.remove("ann", id)
    assert await held.layout(HASH) is None


async def test_a_video_hash_joins_its_file(held: SqliteTorzRepo, node: SqliteNodeRepo) -> None:
    torrent = make_torrent("pack", {"a.mkv": b"a" * 20, "b.mkv": b"b" * 30})
    id = await held.add("ann", torrent, 1)
    await node.set_video_hash(torrent.hash.raw, 1, "8e245d9679d31e12")
    one = await held.get("ann", id)
    assert one
    assert one.files
    assert one.files.count(b"video_hash") == 1
    assert b'"name":"b.mkv","size":30,"video_hash":"8e245d9679d31e12"' in one.files


async def test_two_torrents_with_the_same_first_eight_bytes_stay_apart(
    database: Database, held: SqliteTorzRepo
) -> None:
    twin = HASH[:8] + bytes(12)
    await held.add("ann", GREETING, 1)
    await held.add("ann", Magnet(hash=InfoHash(twin), name="twin"), 1)
    await database.write(lambda c: torrents.set_complete(c, twin, True))
    known = {one.hash: one for one in await held.known([HASH, twin])}
    assert known[HASH].name == "greeting.txt"
    assert (known[twin].complete, known[HASH].complete) == (True, False)
    page, _ = await held.list("ann", 10, 0)
    assert {one.name for one in page} == {"twin", "greeting.txt"}


async def test_long_file_lists_are_kept_small_and_come_back_whole(held: SqliteTorzRepo) -> None:
    torrent = make_torrent("pack", {f"Season 1/Some.Show.S01E{n:02}.1080p.WEB.mkv": bytes([n]) for n in range(99)})
    one = await held.get("ann", await held.add("ann", torrent, 1))
    assert one
    assert one.files
    assert one.files.count(b"Some.Show") == 2 * 99


async def test_secrets_and_users_are_made_once(database: Database) -> None:
    repo = SqliteSecretRepo(database)
    first = await repo.secret("direct links")
    assert len(first) == 32
    assert await repo.secret("direct links") == first
    await repo.add_user("torz", b"hash")
    assert await repo.users() == {"torz": b"hash"}


async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "torz.db"
    database = Database(path)
    await database.open()
    await database.aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("insert into schema_migration values (9999, '9999_future.sql', 'x', 0)")
    connection.close()
    database = Database(path)
    with pytest.raises(DatabaseRefused, match="newer Torz"):
        await database.open()
    await database.aclose()


async def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "torz.db"
    path.write_bytes(b"this is a text\n" * 1000)
    database = Database(path)
    with pytest.raises(DatabaseRefused, match="cannot be used"):
        await database.open()
