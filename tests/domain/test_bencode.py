import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.domain.bencode import Value, decode, encode, info_span, members
from torz.domain.errors import InvalidBencode

INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES: st.SearchStrategy[Value] = st.recursive(
    INTEGERS | st.binary(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=6), inner, max_size=4),
    max_leaves=20,
)
NEARLY = st.lists(st.sampled_from([b"d", b"l", b"e", b"i1e", b"1:a", b"0:", b"i", b":", b"-", b"2:"])).map(b"".join)


@given(VALUES)
def test_a_printed_value_reads_back_as_itself(value: Value) -> None:
    assert decode(encode(value)) == value


@given(st.binary() | NEARLY)
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    with suppress(InvalidBencode):
        assert decode(encode(decode(data))) == decode(data)
    with suppress(InvalidBencode):
        start, end = info_span(data)
        decode(data[start:end])


@given(VALUES, st.binary())
def test_trailing_bytes_are_refused_unless_allowed(value: Value, more: bytes) -> None:
    data = encode(value) + b"e" + more
    assert decode(data, allow_trailing=True) == value
    with pytest.raises(InvalidBencode):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"i", b"ie", b"i-e", b"i1", b"i1.5e", b"i+1e", b"i 1e", b"-1:a", b"1", b"1:", b"2:a", b":", b"e", b"l",
        b"d", b"le1:", b"d1:ae", b"d1:ai1ei2ee", b"di1ei2ee", b"dlei1ee", b"i9223372036854775808e",
        b"i-9223372036854775809e", b"99999999999999999999:a", b"1 :a", b"x", b"\xff",
    ],
)  # fmt: skip
def test_broken_bencode_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidBencode) as refused:
        decode(data)
    assert refused.value.message == "not bencoded"
    assert refused.value.hint


def test_what_the_wild_has_is_let_through() -> None:
    assert decode(b"i007e") == 7
    assert decode(b"003:abc") == b"abc"
    assert decode(b"d1:bi1e1:ai2ee") == {b"b": 1, b"a": 2}


def test_the_first_of_equal_keys_wins() -> None:
    assert decode(b"d1:ai1e1:bi5e1:ai2ee") == {b"a": 1, b"b": 5}
    assert members(b"d1:ai1e1:ai2ee") == {b"a": (1, 4, 7)}
    assert info_span(b"d4:infode4:infoi1ee") == (7, 9)


def test_keys_are_printed_sorted() -> None:
    assert encode({b"b": 1, b"a": [b"x", {}]}) == b"d1:al1:xdee1:bi1ee"


@pytest.mark.parametrize("value", [None, 1.5, "text", True, [None]])
def test_what_bencode_cannot_say_is_not_printed(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)  # type: ignore[arg-type]


def test_a_hundred_levels_are_read_and_one_more_is_refused() -> None:
    decode(b"l" * 100 + b"e" * 100)
    with pytest.raises(InvalidBencode):
        decode(b"l" * 101 + b"e" * 101)
    members(b"d1:a" + b"l" * 99 + b"e" * 100)
    with pytest.raises(InvalidBencode):
        members(b"d1:a" + b"l" * 100 + b"e" * 101)


def test_a_bomb_of_values_is_refused_at_its_limit() -> None:
    decode(b"l" + b"i1e" * 8 + b"e", max_tokens=10)
    with pytest.raises(InvalidBencode):
        decode(b"l" + b"i1e" * 9 + b"e", max_tokens=10)
    with pytest.raises(InvalidBencode):
        members(b"d" + b"1:ai1e" * 6 + b"e", max_tokens=10)


@pytest.mark.parametrize("data", [b"l" * 5_000_000, b"d1:a" * 1_000_000, b"i" + b"1" * 5_000_000 + b"e", b"1" * 10**6])
def test_a_bomb_is_refused_at_once(data: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidBencode):
        decode(data)
    assert time.perf_counter() - started < 1


@given(VALUES, st.dictionaries(st.binary(max_size=6), VALUES, max_size=3))
def test_the_info_span_holds_the_bytes_as_they_came(info: Value, others: dict[bytes, Value]) -> None:
    data = encode({**others, b"info": info})
    start, end = info_span(data)
    assert data[start:end] == encode(info)


@pytest.mark.parametrize(
    "data", [b"", b"le", b"de", b"d4:info", b"d4:infoi1e", b"d1:ad4:infodeee", b"i1e", b"di1ei2ee"]
)
def test_without_an_outermost_info_there_is_no_span(data: bytes) -> None:
    with pytest.raises(InvalidBencode):
        info_span(data)
