"""Passwords as they are kept, and the memory of those that were right."""

import asyncio
import hashlib
import hmac
import secrets

_N, _R, _P = 1 << 14, 8, 1
"""16 MiB and some 40 ms a guess."""
_SALT = 16
_REMEMBERED = 1024


def hash_password(password: str) -> bytes:
    """Salt and scrypt of a password."""
    salt = secrets.token_bytes(_SALT)
    return salt + _scrypt(password, salt)


def is_password(password: str, kept: bytes) -> bool:
    """Whether `kept` was made of this password. Takes tens of milliseconds on purpose."""
    return hmac.compare_digest(_scrypt(password, kept[:_SALT]), kept[_SALT:])


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=64 << 20)


class Users:
    """Who may use the server: those of the settings, and those of the database."""

    def __init__(self, plain: dict[str, str], hashed: dict[str, bytes]) -> None:
        self._plain = plain
        self._hashed = {name: kept for name, kept in hashed.items() if name not in plain}
        self._pepper = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}
        self._one_guess = asyncio.Semaphore(2)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self._plain, *self._hashed)

    def add_local(self, name: str, password: str) -> None:
        """Accept one more password of a user, for programs of this machine, until the process ends."""
        self._remember(self._digest(name, password))

    async def verify(self, name: str, password: str) -> bool:
        """Whether the password is this user's. Costs the same for a user that does not exist."""
        digest = self._digest(name, password)
        if digest in self._right:
            return True
        expected = self._plain.get(name)
        if expected is not None:
            return hmac.compare_digest(digest, self._digest(name, expected))
        if not self._hashed:
            return False
        async with self._one_guess:  # so that guessing cannot take all processors
            kept = self._hashed.get(name, bytes(_SALT + 64))
            right = await asyncio.to_thread(is_password, password, kept)
        if right:
            self._remember(digest)
        return right

    def _digest(self, name: str, password: str) -> bytes:
        return hashlib.blake2b(f"{name}\0{password}".encode(errors="surrogatepass"), key=self._pepper).digest()

    def _remember(self, digest: bytes) -> None:
        if len(self._right) >= _REMEMBERED:
            del self._right[list(self._right)[1]]  # the first is the local one
        self._right[digest] = None
