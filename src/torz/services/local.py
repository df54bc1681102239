"""Credentials for programs of this machine: whoever may read the data folder owns the server anyway."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

FILE = "local-credentials"


class LocalCredentials(msgspec.Struct, frozen=True):
    address: str
    user: str
    password: str

    @classmethod
    def make(cls, user: str, address: str) -> "LocalCredentials":
        """New ones, good until the server ends."""
        return cls(address, user, secrets.token_urlsafe(24))

    @contextlib.contextmanager
    def written(self, folder: Path) -> Iterator[None]:
        """Keep them in a file that only its owner can read: the address in one line, user:password in the next."""
        path = folder / FILE
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{self.address}\n{self.user}:{self.password}\n")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
