import time
from contextlib import suppress
from hashlib import sha1, sha256
from pathlib import Path

import libtorrent as lt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.domain.bencode import Value, encode, info_span
from torz.domain.errors import InvalidTorrent
from torz.domain.infohash import InfoHash
from torz.domain.metainfo import Entry, Torrent

PIECE = 16384
Dictionary = dict[bytes, Value]


def named(words: dict[str, Value]) -> Dictionary:
    return {word.replace("_", " ").encode(): value for word, value in words.items()}


def file(length: int, *path: bytes, **more: Value) -> Dictionary:
    return {b"length": length, b"path": list(path), **named(more)}


def single(length: int = 13, **more: Value) -> Dictionary:
    hashes = b"#" * 20 * -(-length // PIECE)
    return {b"length": length, b"name": b"root", b"piece length": PIECE, b"pieces": hashes, **named(more)}


def several(*files: Dictionary, **more: Value) -> Dictionary:
    total = sum(item[b"length"] for item in files if b"l" not in item.get(b"attr", b""))  # type: ignore[misc, operator]
    info = single(total) | {b"files": list(files)} | named(more)
    del info[b"length"]
    return info


def leaf(length: int, **more: Value) -> Dictionary:
    root: Dictionary = {b"pieces root": b"r" * 32} if length else {}
    return {b"": {b"length": length, **root, **named(more)}}


def tree(nodes: Dictionary, **more: Value) -> Dictionary:
    return {b"file tree": nodes, b"meta version": 2, b"name": b"root", b"piece length": PIECE, **named(more)}


def pad(length: int) -> Dictionary:
    return file(length, b".pad", b"%d" % length, attr=b"p")


def torrent_of(info: Value, **outer: Value) -> bytes:
    return encode({b"info": info, **{key.replace("_", "-").encode(): value for key, value in outer.items()}})


def parse(info: Value, **outer: Value) -> Torrent:
    return Torrent.parse(torrent_of(info, **outer))


HYBRID = single() | tree({b"root": leaf(13)})

# --- what it says ---


def test_a_single_file_stands_at_the_root() -> None:
    data = torrent_of(single(), announce=b"udp://t.example:1", url_list=b"http://w.example/")
    torrent = Torrent.parse(data)
    assert torrent == Torrent(
        hash=InfoHash(sha1(encode(single())).digest()),
        name="root",
        private=False,
        piece_length=PIECE,
        files=(Entry(0, "/root", 13, 0, False),),
        trackers=("udp://t.example:1",),
        web_seeds=("http://w.example/",),
        size=13,
        raw=data,
    )


def test_several_files_leave_their_folder_out() -> None:
    torrent = parse(several(file(13, b"a", b"b.txt"), file(0, b"empty"), file(PIECE, b"c"), private=1))
    assert [(entry.index, entry.path, entry.size, entry.offset) for entry in torrent.files] == [
        (0, "/a/b.txt", 13, 0),
        (1, "/empty", 0, 13),
        (2, "/c", PIECE, 13),
    ]
    assert torrent.private
    assert torrent.size == 13 + PIECE


def test_a_v2_torrent_starts_each_file_at_a_piece() -> None:
    info = tree({b"a": {b"e": leaf(0), b"z": leaf(PIECE + 1)}, b"b": leaf(5), b"c": leaf(0)})
    torrent = parse(info)
    assert torrent.hash.raw == sha256(encode(info)).digest()
    assert torrent.v2 is None
    assert [(entry.path, entry.size, entry.offset // PIECE) for entry in torrent.files] == [
        ("/a/e", 0, 0),
        ("/a/z", PIECE + 1, 0),
        ("/b", 5, 2),
        ("/c", 0, 3),
    ]


def test_a_hybrid_has_both_hashes() -> None:
    torrent = parse(HYBRID)
    assert torrent.hash.raw == sha1(encode(HYBRID)).digest()
    assert torrent.v2 == InfoHash(sha256(encode(HYBRID)).digest())
    assert torrent.magnet.v2 == torrent.v2
    assert torrent.files == (Entry(0, "/root", 13, 0, False),)


def test_padding_and_symlinks_are_counted_and_hidden() -> None:
    torrent = parse(
        several(
            file(5, b"a"),
            file(7, b"x", attr=b"p"),
            file(3, b"_____padding_file_0_if you see this file"),
            pad(9),
            file(99, b"link", attr=b"l", symlink_path=[b"a"]),
            file(6, b"run", attr=b"x"),
        )
    )
    assert [entry.hidden for entry in torrent.files] == [False, True, True, True, True, False]
    assert [(entry.index, entry.offset) for entry in torrent.visible] == [(0, 0), (5, 24)]
    assert torrent.files[4].size == 0
    assert torrent.size == 11


def test_trackers_are_told_once_and_in_order() -> None:
    tiers: Value = [[b"udp://b.example:1", b"udp://a.example:1"], b"udp://c.example:1", [b"file:///x"]]
    torrent = parse(single(), announce=b"udp://a.example:1", announce_list=tiers, url_list=[b"ftp://x/", b"http://w/"])
    assert torrent.trackers == ("udp://a.example:1", "udp://b.example:1", "udp://c.example:1")
    assert torrent.web_seeds == ("http://w/",)


def test_a_torrent_is_not_logged_with_its_bytes_or_passkeys() -> None:
    assert "t.example" not in repr(parse(single(), announce=b"http://t.example/passkey"))


# --- section 7 of the engine's sheet: what is repaired ---


@pytest.mark.parametrize(
    ("element", "shown"),
    [
        (b"..", "_"), (b".", "_"), (b"", "_"), (b"/", "_"), (b"./.", "_"), (b"/etc/passwd", "etcpasswd"),
        (b"a\\..\\b", "a..b"),
        (b"a\nb\x1b[31m", "a_b_[31m"), (b"a\x00b", "ab"), ("x\u202ey\u2066".encode(), "xy"), (b"\x00", "_"),
        (b"\x7f", "_"),
        (b"\xff", "\ufffd"), (b"CON", "CON"), (b"a:b", "a:b"), (b"dot. ", "dot. "), (b".hidden", ".hidden"),
        (b"-rf", "-rf"),
        (b"$(id)", "$(id)"), ("é".encode(), "é"), ("e\u0301".encode(), "e\u0301"), (b"x" * 300, "x" * 300),
        (b"...", "..."),
    ],
)  # fmt: skip
def test_hostile_names_are_tamed_and_odd_ones_kept(element: bytes, shown: str) -> None:
    info = several(file(13, b"a", element, b"b"))
    assert parse(info).files[0].path == f"/a/{shown}/b"
    lt.load_torrent_buffer(torrent_of(info))
    if shown != "_":
        assert parse(several(file(13, b"a"), name=element)).name == parse(single(name=element)).name == shown


def test_names_in_utf8_win() -> None:
    torrent = parse(
        several({**file(13, b"\xe9"), b"path.utf-8": ["é".encode()]}, **{"name": b"\xe8", "name.utf-8": "è".encode()})
    )
    assert torrent.name == "è"
    assert torrent.files[0].path == "/é"


@pytest.mark.parametrize("name", [b"..", b".", b"/", b"\x00"])
def test_a_folder_without_a_usable_name_is_named_by_its_hash(name: bytes) -> None:
    torrent = parse(several(file(13, b"a"), name=name))
    assert torrent.name == str(torrent.hash)


def test_equal_paths_keep_their_indexes() -> None:
    torrent = parse(several(file(5, b"a"), file(6, b"a"), file(7, b"A"), file(8, b"a", b"b")))
    assert [entry.path for entry in torrent.files] == ["/a", "/a", "/A", "/a/b"]


def test_trailing_bytes_unsorted_and_equal_keys_and_leading_zeros_keep_their_bytes() -> None:
    info = b"d6:pieces20:" + b"#" * 20 + b"12:piece lengthi016384e6:lengthi13e6:lengthi14e04:name4:roote"
    torrent = Torrent.parse(b"d4:info" + info + b"4:infod1:ai1eee trailing")
    assert torrent.hash.raw == sha1(info).digest()
    assert torrent.size == 13


def test_too_many_trackers_and_web_seeds_are_cut() -> None:
    urls: list[Value] = [b"http://t%d.example/" % i for i in range(100_000)]
    torrent = parse(single(), announce_list=[urls], url_list=urls)
    assert len(torrent.trackers) == 100
    assert torrent.web_seeds == torrent.trackers[:20]


def test_symlinks_out_of_the_torrent_are_hidden() -> None:
    torrent = parse(several(file(13, b"a"), file(0, b"out", attr=b"l", symlink_path=[b"..", b"..", b"etc"])))
    assert [entry.path for entry in torrent.visible] == ["/a"]


@pytest.mark.parametrize("piece_length", [PIECE, 24 * 1024, 100_000, 64 * 1024**2])
def test_piece_lengths_of_v1_need_not_be_powers_of_two(piece_length: int) -> None:
    assert parse(single(piece_length=piece_length)).piece_length == piece_length


# --- section 7 of the engine's sheet: what is refused ---

ONE = b"#" * 20
DEEP: Value = leaf(13)
for _ in range(99):
    DEEP = {b"a": DEEP}
HOSTILE: dict[str, Value] = {
    "info is a list": [],
    "info is a string": b"",
    "info is empty": {},
    "no name": {key: value for key, value in single().items() if key != b"name"},
    "an empty name": single(name=b""),
    "an empty folder name": several(file(13, b"a"), name=b""),
    "a single file named ..": single(name=b".."),
    "a single file named /": single(name=b"/"),
    "name is an integer": single(name=1),
    "name.utf-8 is a list": single(**{"name.utf-8": []}),
    "no piece length": {key: value for key, value in single().items() if key != b"piece length"},
    "piece length 0": single(piece_length=0),
    "piece length -1": single(piece_length=-1),
    "piece length 1": single(piece_length=1, pieces=ONE * 13),
    "piece length 17": single(piece_length=17),
    "piece length under 16 KiB": single(piece_length=PIECE - 1),
    "piece length over 64 MiB": single(piece_length=64 * 1024**2 + 1),
    "piece length 511 MiB": single(piece_length=511 * 1024**2),
    "piece length is a string": single(piece_length=b"16384"),
    "no pieces": {key: value for key, value in single().items() if key != b"pieces"},
    "pieces is a list": single(pieces=[]),
    "pieces are cut": single(pieces=ONE[:-1]),
    "a piece too few": single(PIECE + 1, pieces=ONE),
    "a piece too many": single(pieces=ONE * 2),
    "neither length nor files": {key: value for key, value in single().items() if key != b"length"},
    "length -1": single(length=-1, pieces=b""),
    "length is a string": single() | {b"length": b"13"},
    "length overflows": single() | {b"length": 2**63 - 1},
    "files is a dictionary": single(files={}),
    "files is empty": several(pieces=b""),
    "files holds an integer": several() | {b"files": [1]},
    "a path is empty": several(file(13)),
    "a path is a string": several({b"length": 13, b"path": b"a"}),
    "a path holds an integer": several({b"length": 13, b"path": [1]}),
    "no path": several({b"length": 13}),
    "path.utf-8 is a string": several(file(13, b"a") | {b"path.utf-8": b"a"}),
    "attr is an integer": several(file(13, b"a"), file(1, b"b")) | {b"files": [file(14, b"a", attr=1)]},
    "a negative length": several(file(14, b"a"), file(-1, b"b")),
    "lengths overflow together": several(file(13, b"z"), pieces=ONE)
    | {b"files": [file(2**63 - 1, b"a"), file(2**63 - 1, b"b")]},
    "all files are empty": several(file(0, b"a"), file(0, b"b")),
    "a single empty file": single(0),
    "nothing but padding": several(file(13, b"a", attr=b"p")),
    "a path of 101 elements": several(file(13, *[b"a"] * 101)),
    "a path of 4000 bytes": several(file(13, *[b"x" * 200] * 20)),
    "a path with a name of 4000 bytes": several(file(13, b"x" * 2000), name=b"x" * 2000),
    "an element of 4000 bytes": several(file(13, b"x" * 4000)),
    "a name of 4000 bytes": single(name=b"x" * 4000),
    "private is a string": single(private=b"1"),
    "meta version is a string": single(meta_version=b"2"),
    "an unknown meta version": single(meta_version=3),
    "v2 without a file tree": single(meta_version=2),
    "a file tree without v2": single(file_tree={}),
    "2,000,000 pieces in 150 bytes": tree({b"root": leaf(2_000_000 * PIECE)}),
    "500,001 pieces": tree({b"root": leaf(500_000 * PIECE + 1)}),
    "over 64 TiB": tree({b"a": leaf(2**62), b"b": leaf(2**62)}, piece_length=64 * 1024**2),
    "v2 piece length no power of two": tree({b"root": leaf(13)}, piece_length=24 * 1024),
    "the file tree is a list": tree([]),  # type: ignore[arg-type]
    "the file tree is empty": tree({}),
    "the file tree is a file": tree(leaf(13)),
    "a node is an integer": tree({b"a": 1}),
    "a leaf is a string": tree({b"a": {b"": b""}}),
    "a leaf has no length": tree({b"a": {b"": {b"pieces root": b"r" * 32}}}),
    "a leaf has a negative length": tree({b"a": {b"": {b"length": -1}}, b"b": leaf(13)}),
    "a leaf has no root": tree({b"a": {b"": {b"length": 13}}}),
    "a leaf has a short root": tree({b"a": {b"": {b"length": 13, b"pieces root": b"r"}}}),
    "a leaf is a folder too": tree({b"a": {**leaf(13), b"b": leaf(13)}}),
    "v2 padding": tree({b"a": leaf(13), b"b": leaf(3, attr=b"p")}),
    "a file tree of 100 levels": tree({b"a": DEEP}),
    "a file tree of long names": tree({b"x" * 2000: {b"x" * 2000: leaf(13)}}),
    "a hybrid of two names": HYBRID | {b"file tree": {b"roof": leaf(13)}},
    "a hybrid of two sizes": HYBRID | {b"file tree": {b"root": leaf(12)}},
    "a hybrid of two orders": several(file(5, b"b"), pad(PIECE - 5), file(6, b"a"))
    | tree({b"a": leaf(6), b"b": leaf(5)}),
    "a hybrid without padding": several(file(5, b"a"), file(6, b"b")) | tree({b"a": leaf(5), b"b": leaf(6)}),
    "40 files of one path": several(*[file(1, b"a") for _ in range(20)], *[file(1, b"A") for _ in range(20)]),
}  # fmt: skip


@pytest.mark.parametrize("row", HOSTILE)
def test_a_hostile_info_is_refused_with_a_reason(row: str) -> None:
    with pytest.raises(InvalidTorrent) as refused:
        parse(HOSTILE[row])
    assert refused.value.message == "invalid torrent file"
    assert refused.value.hint.endswith(".")


OUTER: dict[str, bytes] = {
    "nothing": b"",
    "HTML": b"<!doctype html><title>404</title>",
    "a list": b"le",
    "no info": b"de",
    "cut off": torrent_of(single())[:-2],
    "nesting over 100": b"d4:info" + b"l" * 101 + b"e" * 102,
    "3,000,000 integers": b"d4:infol" + b"i1e" * 3_000_000 + b"ee",
    "over 10 MB": torrent_of(single()) + bytes(10 * 1024**2),
    "200,000 files": torrent_of(several(*[file(1, b"%x" % i) for i in range(200_000)])),
    "50,001 files": torrent_of(several(*[file(1, b"%x" % i) for i in range(50_001)])),
    "an unsorted file tree": torrent_of(tree({})).replace(
        b"9:file treede", b"9:file treed1:b" + encode(leaf(1)) + b"1:a" + encode(leaf(1)) + b"e"
    ),
    "piece layers is a list": encode({b"info": tree({b"a": leaf(13)}), b"piece layers": []}),
    "a piece layer is an integer": encode({b"info": tree({b"a": leaf(13)}), b"piece layers": {b"r" * 32: 1}}),
    "a piece layer is short": encode({b"info": tree({b"a": leaf(PIECE * 2)}), b"piece layers": {b"r" * 32: b"#" * 32}}),
    "announce is an integer": torrent_of(single(), announce=1),
    "announce-list holds an integer": torrent_of(single(), announce_list=[[1]]),
    "url-list is a dictionary": torrent_of(single(), url_list={}),
    "50,000 files in a folder of 3,000 letters": torrent_of(
        tree({b"x" * 3000: {b"%05x" % i: leaf(1) for i in range(50_000)}})
    ),
}


@pytest.mark.parametrize("row", OUTER)
def test_hostile_bytes_are_refused_in_time(row: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidTorrent) as refused:
        Torrent.parse(OUTER[row])
    assert refused.value.hint
    assert time.perf_counter() - started < 2


@given(st.binary())
def test_any_bytes_are_a_torrent_or_refused(data: bytes) -> None:
    with suppress(InvalidTorrent):
        Torrent.parse(data)


KEYS = st.sampled_from([*HYBRID, b"files", b"path", b"attr", b"private", b"", b"pieces root", b"name.utf-8"])
ODD: st.SearchStrategy[Value] = st.recursive(
    st.integers(-1, 2**40)
    | st.binary(max_size=4)
    | st.sampled_from([13, PIECE, ONE, b"root", leaf(13), file(13, b"a")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([single(), several(file(13, b"a")), HYBRID, tree({b"a": leaf(13)})]), st.dictionaries(KEYS, ODD))
def test_any_info_is_a_torrent_or_refused(info: Dictionary, odd: Dictionary) -> None:
    with suppress(InvalidTorrent):
        torrent = parse(info | odd)
        assert torrent.size == sum(entry.size for entry in torrent.visible) > 0


# --- other torrents around the same info ---


@pytest.mark.parametrize("info", [single(), HYBRID, tree({b"a": leaf(PIECE + 1)})])
def test_metadata_from_peers_keeps_its_bytes(info: Dictionary) -> None:
    raw = encode(info)
    torrent = Torrent.from_info(raw, ["udp://a.example:1", "file:///x", "udp://b.example:1"])
    assert torrent.trackers == ("udp://a.example:1", "udp://b.example:1")
    assert torrent.hash == parse(info).hash
    start, end = info_span(torrent.raw)
    assert torrent.raw[start:end] == raw
    assert Torrent.from_info(raw).trackers == ()


@pytest.mark.parametrize("more", [b"e", b"8:url-list0:", b"d", b"\x00"])
def test_metadata_from_peers_cannot_bring_more_than_info(more: bytes) -> None:
    with pytest.raises(InvalidTorrent):
        Torrent.from_info(encode(single()) + more)


def test_other_trackers_change_nothing_else() -> None:
    info = encode(single()).replace(b"i13e", b"i013e")
    data = b"d8:announce17:udp://a.example:1" + b"7:comment02:hi4:info" + info + b"e"
    before = Torrent.parse(data)
    after = before.with_trackers(["udp://b.example:1"])
    assert (after.trackers, after.hash) == (("udp://b.example:1",), before.hash)
    assert b"7:comment02:hi4:info" + info in after.raw
    assert before.with_trackers([]).trackers == ()


# --- speed ---


def test_eight_megabytes_of_hashes_are_read_quickly() -> None:
    data = torrent_of(single(length=400_000 * PIECE, pieces=ONE * 400_000))
    best = min(_seconds(data) for _ in range(3))
    assert best < 0.05


def test_fifty_thousand_files_are_read_in_a_second() -> None:
    data = torrent_of(several(*[file(1000 + i, b"folder", b"file %d.bin" % i) for i in range(50_000)]))
    assert min(_seconds(data) for _ in range(3)) < 1


def _seconds(data: bytes) -> float:
    started = time.perf_counter()
    Torrent.parse(data)
    return time.perf_counter() - started


# --- the engine agrees ---

KINDS = {"v1": lt.create_torrent.v1_only, "hybrid": 0, "v2": lt.create_torrent.v2_only}
SHAPES = {
    "a single file": {"one.bin": 50_000},
    "several files": {"root/a.bin": 20_000, "root/dir/b.bin": 5, "root/dir/c.bin": 3 * PIECE, "root/z": 40_001},
    "empty files": {"root/a": 0, "root/b": 20_000, "root/c": 0, "root/d": 7},
}


def made_by_libtorrent(folder: Path, files: dict[str, int], flags: int) -> bytes:
    for name, size in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(bytes(i * 7 % 251 for i in range(size)))
    creator = lt.create_torrent([lt.create_file_entry(name, size) for name, size in files.items()], PIECE, flags)
    lt.set_piece_hashes(creator, str(folder))
    creator.add_tracker("udp://t.example:1")
    creator.add_url_seed("http://w.example/")
    return lt.bencode(creator.generate())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_libtorrent_reads_the_same_torrent(tmp_path: Path, kind: str, shape: str) -> None:
    data = made_by_libtorrent(tmp_path, SHAPES[shape], KINDS[kind])
    torrent, info = Torrent.parse(data), lt.load_torrent_buffer(data).ti
    layout, hashes = info.layout(), info.info_hashes()
    theirs = [
        ("/" + layout.file_path(i).removeprefix("root/"), layout.file_size(i), layout.file_offset(i), is_pad)
        for i in range(layout.num_files())
        if not (is_pad := bool(layout.file_flags(i) & 1)) or kind != "v2"  # it counts padding where BEP 52 has none
    ]
    ours = [(entry.path, entry.size, entry.offset, entry.hidden) for entry in torrent.files]
    assert ours == theirs
    assert torrent.hash.raw == (hashes.v1 if hashes.has_v1() else hashes.v2).to_bytes()
    assert (torrent.v2 is not None) == (kind == "hybrid")
    if torrent.v2:
        assert torrent.v2.raw == hashes.v2.to_bytes()
    assert (torrent.name, torrent.piece_length) == (info.name(), info.piece_length())
    assert (torrent.trackers, torrent.web_seeds) == (("udp://t.example:1",), ("http://w.example/",))


@pytest.mark.parametrize(
    "info",
    [
        several(file(5, b"a"), file(7, b"x", attr=b"p"), file(9, b"l", attr=b"l", symlink_path=[b"a"]), file(6, b"b")),
        several(file(5, b"a"), file(3, b"_____padding_file_0_"), file(0, b"e"), file(6, b"a\x1b", b"..", b"c")),
        single(13, piece_length=100_000),
    ],
)
def test_libtorrent_gives_files_the_same_places(info: Dictionary) -> None:
    data = torrent_of(info)
    layout = lt.load_torrent_buffer(data).ti.layout()
    theirs = [
        (
            "/" + layout.file_path(i).removeprefix("root/"),
            layout.file_size(i),
            layout.file_offset(i),
            layout.file_flags(i),
        )
        for i in range(layout.num_files())
    ]
    ours = [(entry.path, entry.size, entry.offset, entry.hidden) for entry in Torrent.parse(data).files]
    assert ours == [(path, size, offset, bool(flags & 9)) for path, size, offset, flags in theirs]
