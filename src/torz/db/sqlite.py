"""SQLite, from asyncio: one writer thread, a few reader threads, statements by name."""

import asyncio
import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import apsw

from torz.domain.errors import TorzError, Unavailable

log = logging.getLogger("torz.db")
T = TypeVar("T")
READERS = 3
"""SQLite takes the GIL back for every row, so that more readers than this only wait for each other."""


class DatabaseRefused(TorzError):
    """the database cannot be used."""


@cache
def queries() -> dict[str, str]:
    """The statements of `queries.sql` by name."""
    text = (resources.files("torz.db") / "queries.sql").read_text()
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def rows(connection: apsw.Connection, name: str, given: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """All rows that a named statement gives. The strict tables say what type each column has."""
    return connection.execute(queries()[name], given).fetchall()


@contextmanager
def _passing() -> Iterator[None]:
    """Trouble that passes is Unavailable: whoever asks again later is served."""
    try:
        yield
    except apsw.BusyError as exc:
        log.warning("the database is busy: %s", exc)
        hint = "Another program keeps the database to itself. Ask again."
        raise Unavailable("the database is busy", hint=hint, retry_after=5) from exc
    except apsw.FullError as exc:
        log.error("the disk of the database is full")
        hint = "Free some space on the disk of the data folder."
        raise Unavailable("the server's disk is full", hint=hint, retry_after=60) from exc


class Database:
    """One SQLite file. `read` and `write` run a function of the connection in a thread and give what it gives.

    Both raise Unavailable while somebody else holds the file for too long, or its disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = ThreadPoolExecutor(1, "torz-db-write")
        self._readers = ThreadPoolExecutor(READERS, "torz-db-read")
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Make or migrate the file. Raises DatabaseRefused, with a sentence, when that cannot be."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def aclose(self) -> None:
        """Close every connection, after what was asked before."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._optimize)
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in self._connections:
            connection.close()

    async def read(self, ask: Callable[[apsw.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._ask, ask)

    def peek(self, ask: Callable[[apsw.Connection], T]) -> T:
        """Read a row or two at once, in the caller's thread: less than the way to another thread costs."""
        return ask(self._connection())

    async def write(self, change: Callable[[apsw.Connection], T]) -> T:
        """Run `change` in one transaction."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._change, change)

    def _ask(self, ask: Callable[[apsw.Connection], T]) -> T:
        with _passing():
            return ask(self._connection())

    def _change(self, change: Callable[[apsw.Connection], T]) -> T:
        with _passing():
            connection = self._connection()
            connection.execute("begin immediate")
            try:
                given = change(connection)
                connection.execute("commit")
            except BaseException:  # whatever it was, the transaction must not stay open
                if connection.in_transaction:  # some failures have ended it
                    connection.execute("rollback")
                raise
            return given

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), statementcachesize=200)
        connection.set_busy_timeout(10_000)
        for pragma in (
            "journal_mode=wal",
            "synchronous=normal",
            f"mmap_size={16 << 30}",
            "cache_size=-64000",
            "temp_store=memory",
            "foreign_keys=on",
            "wal_autocheckpoint=4000",
        ):
            connection.execute("pragma " + pragma).fetchall()
        with self._lock:
            self._connections.append(connection)
        return connection

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
            migrate(self._connection())
        except (OSError, apsw.Error) as exc:
            hint = "Restore a backup, or set TORZ_DATA_DIR."
            raise DatabaseRefused(f"The database {self._path} cannot be used: {exc}. {hint}") from exc

    def _optimize(self) -> None:
        with suppress(apsw.Error):  # it only makes the next start faster, and must not keep this one from ending
            self._connection().execute("pragma optimize").fetchall()


def migrate(connection: apsw.Connection) -> None:
    """Apply the migrations that are missing, each in a transaction. Raises DatabaseRefused for a newer database."""
    known = _migrations()
    connection.execute("begin immediate")
    try:
        connection.execute(
            "create table if not exists schema_migration("
            "version integer primary key, name text not null, sha256 text not null, applied_at integer not null) strict"
        )
        found: list[tuple[Any, ...]] = connection.execute("select version, sha256 from schema_migration").fetchall()
        applied: dict[int, str] = dict(found)
        for version, (name, text) in known.items():
            digest = hashlib.sha256(text.encode()).hexdigest()
            if applied.setdefault(version, digest) != digest:
                raise DatabaseRefused(f"Migration {name} was changed after it was applied to this database.")
            if not connection.execute("select 1 from schema_migration where version = ?", (version,)).fetchall():
                connection.execute(text)
                connection.execute(
                    "insert into schema_migration values (?, ?, ?, ?)", (version, name, digest, int(time.time()))
                )
        if applied.keys() - known.keys():
            raise DatabaseRefused("The database was written by a newer Torz. Start that version, or restore a backup.")
    except BaseException:  # as in `write`
        connection.execute("rollback")
        raise
    connection.execute("commit")


@cache
def _migrations() -> dict[int, tuple[str, str]]:
    folder = resources.files("torz.db") / "migrations" / "sqlite"
    files = sorted((file.name, file.read_text()) for file in folder.iterdir() if file.name.endswith(".sql"))
    return {int(name.partition("_")[0]): (name, text) for name, text in files}
