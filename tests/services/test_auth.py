"""Every combination of server credentials, store name and store token (the Torz API, section 11.2)."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torz.domain.errors import (
    BadRequest,
    CredentialsInvalid,
    StoreNameInvalid,
    StoreTokenMissing,
    TorzError,
    Unauthorized,
)
from torz.services.auth import Access, Auth, Credentials, parse_credentials, parse_store_auth, parse_users
from torz.services.passwords import Users, hash_password, is_password

pytestmark = pytest.mark.anyio
STORES = ("torz", "realdebrid", "torbox")
GOOD, BAD = "Basic " + b64encode(b"ann:secret").decode(), "Basic " + b64encode(b"ann:wrong").decode()
TOKEN = "Bearer token"


def auth(store_auth: str = "") -> Auth:
    users = Users({"ann": "secret", "bob": "a:b"}, {"db": hash_password("from the database")})
    return Auth(users, parse_store_auth(store_auth, STORES), STORES)


def headers(server: str | None, store: str | None, token: str | None) -> dict[str, str]:
    sent = {
        "x-stremthru-authorization": server,
        "x-stremthru-store-name": store,
        "x-stremthru-store-authorization": token,
    }
    return {name: value for name, value in sent.items() if value is not None}


CONFIGURED = "ann:realdebrid:rd-token,ann:torbox:tb:token,*:torbox:everybody's"


@pytest.mark.parametrize(
    ("configured", "server", "store", "token", "expected"),
    [
        (CONFIGURED, GOOD, None, None, Access("realdebrid", "rd-token", "ann")),
        (CONFIGURED, GOOD, "torbox", None, Access("torbox", "tb:token", "ann")),
        (CONFIGURED, GOOD, "torbox", TOKEN, Access("torbox", "token", "ann")),
        (CONFIGURED, GOOD, None, TOKEN, Access("realdebrid", "token", "ann")),
        (CONFIGURED, GOOD, "torz", None, Access("torz", None, "ann")),
        ("*:torbox:t", GOOD, None, None, Access("torbox", "t", "ann")),
        ("*:torbox:t", GOOD, "realdebrid", None, StoreTokenMissing),
        ("bob:torbox:t", GOOD, None, None, Access("torz", None, "ann")),
        ("", GOOD, None, None, Access("torz", None, "ann")),
        ("", GOOD, None, TOKEN, Access("torz", "token", "ann")),
        ("", GOOD, "realdebrid", None, StoreTokenMissing),
        ("", None, "realdebrid", TOKEN, Access("realdebrid", "token", None)),
        ("", BAD, "realdebrid", TOKEN, Access("realdebrid", "token", None)),
        ("", None, "realdebrid", None, StoreTokenMissing),
        ("", BAD, "realdebrid", None, CredentialsInvalid),
        ("", None, None, None, BadRequest),
        ("", None, None, TOKEN, BadRequest),
        ("", BAD, None, None, CredentialsInvalid),
        ("", BAD, None, TOKEN, CredentialsInvalid),
        ("", None, "torz", None, StoreTokenMissing),
        ("", GOOD, "nope", TOKEN, StoreNameInvalid),
        ("", None, "rd", TOKEN, StoreNameInvalid),
        ("", None, "RealDebrid", TOKEN, StoreNameInvalid),
        ("", None, "realdebrid", "token-without-a-blank", StoreTokenMissing),
    ],
)
async def test_every_combination_has_its_answer(
    configured: str, server: str | None, store: str | None, token: str | None, expected: Access | type[TorzError]
) -> None:
    asked = auth(configured).access(headers(server, store, token))
    if isinstance(expected, Access):
        assert await asked == expected
    else:
        with pytest.raises(expected):
            await asked


async def test_the_older_header_names_still_count() -> None:
    sent = {"proxy-authorization": GOOD, "x-stremthru-store-name": "torbox", "authorization": "Bearer x"}
    assert await auth().access(sent) == Access("torbox", "x", "ann")


@pytest.mark.parametrize("text", ["Basic YW5uOnNlY3JldA==", "YW5uOnNlY3JldA==", "Basic ann:secret", "ann:secret"])
def test_credentials_are_read_in_four_forms(text: str) -> None:
    assert parse_credentials(text) == Credentials("ann", "secret")


@pytest.mark.parametrize("text", ["", "Basic ", "ann", "ann:", ":secret", "Basic Og==", "basic YW5uOnNlY3JldA=="])
def test_other_forms_are_no_credentials(text: str) -> None:
    assert parse_credentials(text) is None


@given(st.text())
def test_any_text_is_credentials_or_none(text: str) -> None:
    found = parse_credentials(text)
    assert found is None or (found.user and found.password)


def test_users_are_listed_plain_or_in_base64_and_nonsense_is_skipped() -> None:
    assert parse_users("ann:secret, Ym9iOmE6Yg==,nonsense,:x") == {"ann": "secret", "bob": "a:b"}


def test_a_store_that_does_not_exist_cannot_have_a_token() -> None:
    with pytest.raises(StoreNameInvalid, match="nope"):
        parse_store_auth("ann:nope:token", STORES)
    assert parse_store_auth("ann:torbox,ann", STORES) == []


@pytest.mark.parametrize(
    ("token", "account"),
    [("ann:secret", "ann"), (b64encode(b"bob:a:b").decode(), "bob"), ("db:from the database", "db")],
)
async def test_the_embedded_store_takes_a_users_credentials_as_its_token(token: str, account: str) -> None:
    assert await auth().account(Access("torz", token, None)) == account


@pytest.mark.parametrize("token", ["ann:wrong", "nobody:secret", "db:wrong", "nonsense", "\ud800:x"])
async def test_the_embedded_store_refuses_any_other_token(token: str) -> None:
    with pytest.raises(Unauthorized):
        await auth().account(Access("torz", token, "ann"))


async def test_a_password_of_the_database_is_remembered_once_it_was_right() -> None:
    users = Users({}, {"db": hash_password("right")})
    assert not await users.verify("db", "wrong")
    assert await users.verify("db", "right")
    assert await users.verify("db", "right")
    assert not await users.verify("nobody", "right")


def test_a_password_is_kept_as_a_salted_hash() -> None:
    first, second = hash_password("secret"), hash_password("secret")
    assert first != second
    assert b"secret" not in first
    assert is_password("secret", first)
    assert not is_password("Secret", first)
