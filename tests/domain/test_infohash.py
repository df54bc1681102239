from base64 import b32encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.domain.errors import InvalidInfoHash
from torz.domain.infohash import InfoHash

V1 = "db42af2b6ae098558b98a14cd7874ef64162cac8"
FORMS = (V1, V1.upper(), "3NBK6K3K4CMFLC4YUFGNPB2O6ZAWFSWI", "3nbk6k3k4cmflc4yufgnpb2o6zawfswi")


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_a_hash_is_the_same_hash(text: str) -> None:
    assert str(InfoHash.parse(text)) == V1


@pytest.mark.parametrize("text", ["", "z" * 40, V1[:39], f" {V1}", f"{V1}\n", "1" * 32, "A" * 31 + "=", "é" * 40])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(InvalidInfoHash):
        InfoHash.parse(text)


@given(st.text())
def test_any_text_is_an_info_hash_or_refused(text: str) -> None:
    with suppress(InvalidInfoHash):
        assert len(InfoHash.parse(text).raw) in (20, 32)


@given(st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32))
def test_a_printed_hash_reads_back_as_itself(raw: bytes) -> None:
    assert InfoHash.parse(str(InfoHash(raw))) == InfoHash(raw)
    assert InfoHash(raw).short.raw == raw[:20]
    assert InfoHash(raw).is_v2 is (len(raw) == 32)


@given(st.binary(min_size=20, max_size=20))
def test_base32_names_the_same_bytes(raw: bytes) -> None:
    assert InfoHash.parse(b32encode(raw).decode()) == InfoHash(raw)
