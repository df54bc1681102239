"""What people and programs see. Names come from strangers: nothing in them may move the cursor or turn the text."""

import json
import sys
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from torz.cli.text import plain
from torz.domain.torz import Torz, TorzStatus
from torz.wire.shapes import TorzShape

_COLOURS = {
    TorzStatus.DOWNLOADED: "green",
    TorzStatus.CACHED: "green",
    TorzStatus.DOWNLOADING: "cyan",
    TorzStatus.FAILED: "red",
    TorzStatus.INVALID: "red",
}
_NEVER_WRAPPED = 10_000
"""Columns of what is no terminal: a pipe gets whole ids and names."""
console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _NEVER_WRAPPED)


def clean(text: str) -> str:
    """A stranger's text, for a terminal."""
    return escape(plain(text))


def size(count: int | None) -> str:
    """Bytes, for people."""
    if count is None:
        return "?"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} TB"


def status(torz: Torz) -> str:
    colour = _COLOURS.get(torz.status, "yellow")
    return f"[{colour}]{torz.status.value}[/]"


def progress(torz: Torz) -> str:
    """Percent, speed and peers of what is not finished, or what it waits for."""
    transfer = torz.transfer
    if transfer is None:
        return ""
    if transfer.message:
        return clean(transfer.message)
    share = f"{100 * transfer.done / transfer.total:.1f} %" if transfer.total else ""
    eta = f", {_duration(transfer.eta)} left" if transfer.eta is not None else ""
    return f"{share} {size(transfer.download_rate)}/s, {transfer.peers} peers{eta}".strip()


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_torz(torz: Torz) -> None:
    """Everything about one."""
    console.print(f"[bold]{clean(torz.name) or '(no name yet)'}[/]")
    console.print(f"id      {clean(torz.id)}\nhash    {torz.hash}\nsize    {size(torz.size)}\nstatus  {status(torz)}")
    if torz.transfer:
        console.print(f"        {progress(torz)}")
    if torz.files:
        table = Table("#", "size", "path", box=None, pad_edge=False)
        for file in torz.files:
            table.add_row(str(file.index), size(file.size), clean(file.path))
        console.print(table)


def print_list(items: list[Torz], total: int) -> None:
    table = Table("id", "status", "size", "name", "", box=None, pad_edge=False)
    for torz in items:
        table.add_row(clean(torz.id), status(torz), size(torz.size), clean(torz.name) or str(torz.hash), progress(torz))
    console.print(table)
    if len(items) < total:
        console.print(f"{len(items)} of {total}")


def to_json(torz: Torz) -> Any:
    """As the wire has it."""
    return msgspec.to_builtins(TorzShape.of(torz))


def echo_json(value: Any) -> None:
    """One document in one line, in ASCII: on a terminal it is a stranger's text like any other."""
    click.echo(json.dumps(value, separators=(",", ":")))
