"""Signed links to our own files."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.domain.directlink import DirectLink
from torz.domain.errors import InvalidLink, LinkGone

KEY = bytes(range(32))
LINK = DirectLink("0abc", 7, 2_000_000_000)


@given(st.text("0123456789abcdef", min_size=1, max_size=20), st.integers(0, 2**32 - 1), st.integers(1, 2**63))
def test_what_is_signed_is_read_back(id: str, index: int, expires: int) -> None:
    link = DirectLink(id, index, expires)
    assert DirectLink.verify(link.sign(KEY), KEY, expires - 1) == link


@given(st.text())
def test_any_text_is_refused_as_a_link(text: str) -> None:
    with pytest.raises(InvalidLink):
        DirectLink.verify(text, KEY, 0)


@given(st.integers(0, 200), st.characters())
def test_no_changed_character_passes(position: int, char: str) -> None:
    token = LINK.sign(KEY)
    position %= len(token)
    changed = token[:position] + char + token[position + 1 :]
    with suppress(InvalidLink):
        DirectLink.verify(changed, KEY, 0)
        assert changed == token


def test_a_link_ends_after_its_time_and_is_bound_to_its_key() -> None:
    token = LINK.sign(KEY)
    with pytest.raises(LinkGone):
        DirectLink.verify(token, KEY, LINK.expires)
    with pytest.raises(InvalidLink):
        DirectLink.verify(token, bytes(32), 0)
