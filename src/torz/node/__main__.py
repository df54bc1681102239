"""The node's process: `python -m torz.node --data-dir FOLDER --socket PATH`, started and watched by the server."""

import argparse
import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec
import uvloop

from torz.bus.socket import NodeServer
from torz.config import Config, load
from torz.db.nodes import SqliteNodeRepo
from torz.db.sqlite import Database
from torz.domain.errors import TorzError
from torz.node.files import DataFolder, FolderTaken
from torz.node.node import Node
from torz.node.publisher import Publisher
from torz.node.readers import Readers

_LOCK_PATIENCE = 10.0
"""Seconds in which a predecessor may end."""
_PR_SET_PDEATHSIG = 1


def main() -> int:
    parser = argparse.ArgumentParser("torz.node")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    given = parser.parse_args()
    _die_with_parent()
    try:
        config = load(flags={"data_dir": str(given.data_dir)})
        _log(config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config, given.socket))
    except (TorzError, OSError) as exc:
        print(f"torz: the engine cannot start: {exc}", file=sys.stderr)
        return 1
    return 0


def _log(config: Config) -> None:
    """To our standard error, which is our parent's. Nothing here may hold a tracker's URL: there are keys in those."""
    text = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    as_json = config.log_format == "json" or (config.log_format == "auto" and not sys.stderr.isatty())
    logging.basicConfig(level=config.log_level.upper(), format=text, datefmt="%Y-%m-%d %H:%M:%S")
    logging.Formatter.converter = time.gmtime
    if as_json:
        logging.getLogger().handlers[0].setFormatter(_Json())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
        }
        return msgspec.json.encode(said).decode()


async def _run(config: Config, socket: Path) -> None:
    data = DataFolder(Path(config.data_dir))
    stop = asyncio.Event()
    with _lock(data):
        _listen_for_stop(stop)
        data.prepare()
        database = Database(data.root / "torz.db")
        await database.open()
        node = Node(config, SqliteNodeRepo(database), data)
        server = NodeServer(socket, node.handle, lambda: publisher.snapshot(node.held()), lambda n: readers.gone(n))
        publisher = Publisher(server)
        readers = Readers(lambda: server, data)
        try:
            await node.run(server, publisher, readers, stop)
        finally:
            await database.aclose()


def _lock(data: DataFolder) -> IO[str]:
    """The folder for us alone; a predecessor that is ending gets time for it. Raises FolderTaken."""
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            return data.lock()
        except FolderTaken:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _listen_for_stop(stop: asyncio.Event) -> None:
    """A signal, or the end of the process that holds our standard input."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def on_input() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            stop.set()

    with contextlib.suppress(OSError, ValueError):  # there is no standard input that can be watched
        loop.add_reader(0, on_input)


def _die_with_parent() -> None:
    """Where the kernel can tell us, hear of our parent's end even when it had no time to say so."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
