from hashlib import sha256

import pytest

from torz.domain.videohash import EDGE, is_video, video_hash


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bytes(131072), "0000000000020000"),
        (b"\x01" * 65536, "4040404040414000"),
        (bytes(i % 256 for i in range(200000)), "a0601fdf9f620d40"),
        (b"".join(sha256(i.to_bytes(4, "big")).digest() for i in range(32768)), "068f083aebd3cde5"),
        (b"\xff" * 65536, "000000000000c000"),
    ],
)
def test_hashes_are_those_of_opensubtitles(content: bytes, expected: str) -> None:
    assert video_hash(len(content), content[:EDGE], content[-EDGE:]) == expected


@pytest.mark.parametrize(("size", "head", "tail"), [(65535, 65535, 65535), (65535, EDGE, EDGE), (EDGE, EDGE - 1, EDGE)])
def test_a_short_file_has_no_hash(size: int, head: int, tail: int) -> None:
    with pytest.raises(ValueError, match="65536"):
        video_hash(size, bytes(head), bytes(tail))


@pytest.mark.parametrize("path", ["/a/Some.Movie.MKV", "x.mp4", "/b.m2ts", "/…/é.webm"])
def test_videos_are_known_by_their_extension(path: str) -> None:
    assert is_video(path)


@pytest.mark.parametrize("path", ["", "/", ".mkv", "/a/.mkv", "mkv", "/a.mkv/b", "/a.srt", "/a.mkv.txt", "/a.mkv "])
def test_nothing_else_is_a_video(path: str) -> None:
    assert not is_video(path)
