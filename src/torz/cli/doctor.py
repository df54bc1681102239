"""torz doctor"""

import asyncio
import os
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import click

from torz.cli.output import clean, console, echo_json
from torz.cli.session import connect, settings
from torz.config import Config
from torz.domain.errors import TorzError
from torz.wire.shapes import Debug

_FEW_FILES = 1024
_CLOCK_OFF = 120
"""Seconds."""


class Finding(NamedTuple):
    what: str
    well: bool
    said: str
    """How it is, or what to do."""


@click.command()
@click.pass_obj
def command(obj: dict[str, Any]) -> int:
    """Check this machine and the server, and say what to do."""
    findings = list(_examine(obj))
    if obj["as_json"]:
        echo_json({"findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            console.print(f"{'[green]✓[/]' if finding.well else '[red]✗[/]'} {finding.what}: {clean(finding.said)}")
    return 0 if all(finding.well for finding in findings) else 1


def _examine(obj: dict[str, Any]) -> Iterator[Finding]:
    right = (3, 11) <= sys.version_info < (3, 14)
    yield Finding("Python", right, sys.version.split()[0] + ("" if right else "; use 3.11, 3.12 or 3.13"))
    yield _engine_package()
    try:
        config = settings(obj)
    except TorzError as exc:
        yield Finding("Settings", False, exc.message)
        return
    yield Finding("Settings", True, "all can be used")
    yield from _data_folder(config)
    yield _file_limit()
    debug = None
    try:
        debug = asyncio.run(_ask(obj))
    except TorzError as exc:
        yield Finding("Server", False, exc.hint or exc.message)
    yield _port(config, debug)
    if debug:
        yield from _server(debug)


def _engine_package() -> Finding:
    try:
        return Finding("Engine", True, "libtorrent " + version("libtorrent"))
    except PackageNotFoundError:
        return Finding("Engine", False, "libtorrent is not installed: make setup")


def _data_folder(config: Config) -> Iterator[Finding]:
    folder = Path(config.data_dir)
    if not folder.exists():
        above = next(parent for parent in folder.parents if parent.exists())
        well = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
        said = "will be made at the first start" if well else f"cannot be made in {above}; set TORZ_DATA_DIR"
        yield Finding("Data folder", well, f"{folder} {said}")
        return
    writable = os.access(folder, os.W_OK | os.X_OK)
    yield Finding(
        "Data folder", writable, f"{folder}" if writable else f"{folder} cannot be written; set TORZ_DATA_DIR"
    )
    private = not folder.stat().st_mode & 0o022
    if not private:
        yield Finding("Permissions", False, f"others may write {folder}; run: chmod go-w {folder}")
    free = shutil.disk_usage(folder).free
    enough = free > config.disk_reserve
    said = f"{free / 1e9:.1f} GB free" + ("" if enough else "; downloads wait until there is more")
    yield Finding("Disk", enough, said)


def _file_limit() -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    well = limit >= _FEW_FILES
    return Finding("Open files", well, f"{limit} allowed" + ("" if well else "; raise it with ulimit -n 4096"))


async def _ask(obj: dict[str, Any]) -> Debug:
    async with connect(obj) as client:
        return await client.debug()


def _port(config: Config, debug: Debug | None) -> Finding:
    if debug:
        return Finding("Port", True, "a Torz server answers")
    host = config.host[0] if config.host else "127.0.0.1"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, config.port))
        except OSError as exc:
            return Finding("Port", False, f"{host}:{config.port} cannot be had ({exc.strerror}); set TORZ_PORT")
    return Finding("Port", True, f"{host}:{config.port} is free")


def _server(debug: Debug) -> Iterator[Finding]:
    yield Finding("Server", True, f"version {debug.version}")
    yield _clock(debug.time)
    if not debug.engine:
        yield Finding("Engine process", False, "the server does not know us; give --auth user:password")
        return
    engine = debug.engine
    well = engine.alive and not engine.problem
    said = engine.problem or f"{engine.name}, port {engine.port}, {engine.torrents} torrents, {engine.peers} peers"
    yield Finding("Engine process", well, said)


def _clock(told: str) -> Finding:
    """Ours beside the server's."""
    now = datetime.now(UTC)
    try:
        off = abs((now - datetime.fromisoformat(told)).total_seconds())
    except (ValueError, TypeError):
        return Finding("Clock", False, "the server tells no time; is it a Torz?")
    sane = off < _CLOCK_OFF and now.year >= 2026
    return Finding("Clock", sane, "right" if sane else f"{off:.0f} seconds apart from the server's; set the time")
