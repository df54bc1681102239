"""The server's own keys and users, on SQLite."""

import secrets
import time

import apsw

from torz.db.sqlite import Database, rows


class SqliteSecretRepo:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def secret(self, name: str, size: int = 32) -> bytes:
        def change(connection: apsw.Connection) -> bytes:
            rows(connection, "put_secret", {"name": name, "value": secrets.token_bytes(size)})
            value: bytes = rows(connection, "secret", {"name": name})[0][0]
            return value

        return await self._database.write(change)

    async def users(self) -> dict[str, bytes]:
        return await self._database.read(lambda c: dict(rows(c, "users")))

    async def add_user(self, name: str, password_hash: bytes) -> None:
        row = {"name": name, "password_hash": password_hash, "now": int(time.time())}
        await self._database.write(lambda connection: rows(connection, "put_user", row))
