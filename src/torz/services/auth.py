"""Who asks, which store they mean, and on whose account. Source: the Torz API, section 11."""

from base64 import b64decode
from collections.abc import Mapping, Sequence

import msgspec

from torz.domain.errors import (
    BadRequest,
    CredentialsInvalid,
    ErrorItem,
    StoreNameInvalid,
    StoreTokenMissing,
    Unauthorized,
)
from torz.services.passwords import Users

DEFAULT_STORE = "torz"


class Credentials(msgspec.Struct, frozen=True):
    user: str
    password: str


class StoreAuth(msgspec.Struct, frozen=True):
    """One token of the settings."""

    user: str
    """`*` for everybody."""
    store: str
    token: str


class Access(msgspec.Struct, frozen=True):
    """A request's way to a store."""

    store: str
    token: str | None
    """The store's own token; None where the user of this server is account enough."""
    user: str | None
    """The user of this server, when valid credentials came along."""


def parse_credentials(text: str) -> Credentials | None:
    """`Basic <base64>`, `<base64>`, `Basic user:pass` or `user:pass`; None for anything else."""
    text = text.removeprefix("Basic ").strip()
    for form in (text, _unbase64(text)):
        user, colon, password = form.partition(":")
        if colon and user and password:
            return Credentials(user, password)
    return None


def _unbase64(text: str) -> str:
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except ValueError:
        return ""


def parse_users(text: str) -> dict[str, str]:
    """`user:password,...`, each plain or in base64. What is neither is skipped."""
    found = (parse_credentials(entry.strip()) for entry in text.split(",") if entry.strip())
    return {one.user: one.password for one in found if one}


def parse_store_auth(text: str, known: Sequence[str]) -> list[StoreAuth]:
    """`user:store:token,...`. Entries with fewer colons are skipped; a later one for the same user and store wins.

    Raises StoreNameInvalid for a store that does not exist.
    """
    found: dict[tuple[str, str], StoreAuth] = {}
    for entry in text.split(","):
        parts = entry.strip().split(":", 2)
        if len(parts) == 3 and all(parts):
            if parts[1] not in known:
                raise StoreNameInvalid(f"TORZ_STORE_AUTH names a store that does not exist: {parts[1]}.")
            found[parts[0], parts[1]] = StoreAuth(*parts)
    return list(found.values())


class Auth:
    def __init__(self, users: Users, store_auth: Sequence[StoreAuth], stores: Sequence[str]) -> None:
        self._users = users
        self._store_auth = store_auth
        self._stores = frozenset(stores)

    async def user(self, headers: Mapping[str, str]) -> str | None:
        """The user of this server whose valid credentials a request carries.

        Raises CredentialsInvalid when it carries some that are not valid.
        """
        sent = headers.get("x-stremthru-authorization") or headers.get("proxy-authorization")
        if not sent:
            return None
        credentials = parse_credentials(sent)
        if credentials and await self._users.verify(credentials.user, credentials.password):
            return credentials.user
        raise CredentialsInvalid(
            "invalid credentials",
            items=(ErrorItem("invalid credentials", "X-StremThru-Authorization", "header"),),
            hint="Send X-StremThru-Authorization: Basic <base64 of user:password> with a user of this server.",
        )

    async def access(self, headers: Mapping[str, str]) -> Access:
        """Which store a request means, and by what right: every combination of section 11.2."""
        store = headers.get("x-stremthru-store-name", "")
        if store and store not in self._stores:
            item = ErrorItem("invalid store name", "X-StremThru-Store-Name", "header", "store")
            known = ", ".join(sorted(self._stores))
            raise StoreNameInvalid("invalid store name", items=(item,), hint=f"The stores of this server: {known}.")
        token = _token(headers)
        user: str | None = None
        try:
            user = await self.user(headers)
        except CredentialsInvalid:
            if not (store and token):  # what can stand on its own is not refused for a stray header
                raise
        if user is None:
            return self._anonymous(store, token)
        return self._configured(user, store, token)

    def _anonymous(self, store: str, token: str | None) -> Access:
        if not store:
            raise BadRequest.saying(
                "missing store",
                hint="Name a store and its token, or send this server's credentials in X-StremThru-Authorization.",
            )
        if token is None:
            raise StoreTokenMissing(
                "Unauthorized",
                items=(ErrorItem("Unauthorized"),),
                hint="Send the store's token as X-StremThru-Store-Authorization: Bearer <token>.",
            )
        return Access(store, token, None)

    def _configured(self, user: str, store: str, token: str | None) -> Access:
        own = [one for one in self._store_auth if one.user == user]
        rows = own + [one for one in self._store_auth if one.user == "*"]
        if not store:
            store = rows[0].store if rows else DEFAULT_STORE
        if token is None:
            token = next((one.token for one in rows if one.store == store), None)
        if token is None and store != DEFAULT_STORE:
            raise StoreTokenMissing(
                "Unauthorized",
                items=(ErrorItem("Unauthorized"),),
                hint=f"There is no token of yours for {store}: send one, or list it in TORZ_STORE_AUTH.",
            )
        return Access(store, token, user)

    def stores_of(self, user: str) -> list[str]:
        """The stores that a user of this server needs no token for, the default one first."""
        rows = [one.store for one in self._store_auth if one.user == user]
        rows += [one.store for one in self._store_auth if one.user == "*"]
        return list(dict.fromkeys([*rows, DEFAULT_STORE]))

    async def account(self, access: Access) -> str:
        """The account of a store that knows our own users: the token's user, else the caller.

        Raises Unauthorized for a token that is no user's.
        """
        if access.token is None:
            if access.user is None:
                raise StoreTokenMissing()
            return access.user
        credentials = parse_credentials(access.token)
        if credentials and await self._users.verify(credentials.user, credentials.password):
            return credentials.user
        raise Unauthorized(
            "Unauthorized",
            items=(ErrorItem("Unauthorized"),),
            hint="The token of the embedded store is the base64 of a user:password of this server.",
        )


def _token(headers: Mapping[str, str]) -> str | None:
    """`<any scheme> <token>`; without the blank there is no token."""
    sent = headers.get("x-stremthru-store-authorization") or headers.get("authorization") or ""
    return sent.partition(" ")[2].strip() or None
