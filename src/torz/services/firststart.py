"""Credentials that are made when nobody set any."""

import secrets

from torz.ports.repo import SecretRepo
from torz.services.auth import Credentials
from torz.services.passwords import hash_password

FIRST_USER = "torz"


async def make_credentials(repo: SecretRepo) -> Credentials | None:
    """A user with a random password, kept as a hash; None when there is a user already."""
    if await repo.users():
        return None
    password = secrets.token_urlsafe(18)
    await repo.add_user(FIRST_USER, hash_password(password))
    return Credentials(FIRST_USER, password)
