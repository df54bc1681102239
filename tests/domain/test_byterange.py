from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.domain.byterange import ByteRange, parse_range, pieces_of
from torz.domain.errors import RangeNotSatisfiable

HEADERS = st.text() | st.lists(st.from_regex(r"[0-9]{0,3}-[0-9]{0,3}", fullmatch=True)).map(
    lambda specs: "bytes=" + ", ".join(specs)
)


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-4", 13, [(0, 5)]),
        ("bytes=0-0", 13, [(0, 1)]),
        ("BYTES=10-", 13, [(10, 13)]),
        ("bytes=-5", 13, [(8, 13)]),
        ("bytes=-99", 13, [(0, 13)]),
        ("bytes=12-99999999999999999999999999", 13, [(12, 13)]),
        ("bytes=0-0, -1", 13, [(0, 1), (12, 13)]),
        ("bytes=,\t5-6 ,, 0-1,", 13, [(5, 7), (0, 2)]),
        ("bytes=0-0,50-60", 13, [(0, 1)]),
        ("bytes=0-5,3-8", 13, [(0, 6), (3, 9)]),
        ("bytes=0-,-0", 13, [(0, 13)]),
        ("bytes=" + ",".join(f"{i}-{i}" for i in range(16)), 16, [(i, i + 1) for i in range(16)]),
    ],
)
def test_ranges_are_cut_at_the_end_of_the_file(header: str, size: int, expected: list[tuple[int, int]]) -> None:
    assert parse_range(header, size) == tuple(ByteRange(*pair) for pair in expected)


@pytest.mark.parametrize(
    "header",
    [
        "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=1", "bytes=1-2-3", "bytes=--1",
        "bytes=+1-2", "bytes=1 -2", "bytes=٣-٤", "items=0-4", "bytes 0-4", "bytes =0-4", "bytes=0-4,x", "bytes=0-4;5-6",
        "bytes=" + ",".join(["0-0"] * 17), "bytes=0-,0-", "bytes=-13,0-0", "bytes=" + "1" * 5000 + "-",
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_followed_is_ignored(header: str) -> None:
    assert parse_range(header, 13) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=13-", 13), ("bytes=13-14,99-", 13), ("bytes=-0", 13), ("bytes=0-", 0), ("bytes=-0", 0)]
)
def test_a_range_behind_the_end_is_not_satisfiable(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, size)


def test_the_end_of_an_empty_file_is_the_whole_of_it() -> None:
    assert parse_range("bytes=-5", 0) is None


@given(HEADERS, st.integers(0, 2000))
def test_any_header_gives_ranges_within_the_file_or_is_refused(header: str, size: int) -> None:
    with suppress(RangeNotSatisfiable):
        found = parse_range(header, size)
        assert found is None or (found and all(0 <= part.start < part.end <= size for part in found))
        assert sum(part.size for part in found or ()) <= size


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_printed_range_reads_back_as_itself(start: int, size: int) -> None:
    asked = ByteRange(start, start + size)
    assert parse_range(f"bytes={asked.start}-{asked.end - 1}", 1000) == (asked,)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 64))
def test_the_pieces_of_a_range_hold_it_and_no_more(start: int, size: int, piece_length: int) -> None:
    needed = {byte // piece_length for byte in range(start, start + size)}
    assert set(pieces_of(ByteRange(start, start + size), piece_length)) == needed


@pytest.mark.parametrize("pair", [(-1, 0), (2, 1)])
def test_a_range_never_runs_backwards(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a range"):
        ByteRange(*pair)
