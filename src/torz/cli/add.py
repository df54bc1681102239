"""torz add"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn

from torz.cli.output import clean, console, echo_json, progress, size, status, to_json
from torz.cli.session import run
from torz.cli.text import plain
from torz.client import Client
from torz.domain.errors import InvalidTorrent, TorzError
from torz.domain.metainfo import MAX_BYTES
from torz.domain.torz import Torz, TorzStatus


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--wait", is_flag=True, help="Wait until it is downloaded, and show how it gets on.")
@click.pass_obj
def command(obj: dict[str, Any], sources: tuple[str, ...], wait: bool) -> int:
    """Add torrents: magnets, info hashes, URLs, .torrent files, or folders of .torrent files."""
    found = list(_sources(sources))
    added, failed = run(obj, lambda client: _add_all(client, found, obj["as_json"]))
    if wait and added:
        added = run(obj, lambda client: _wait_all(client, added, obj["as_json"]))
    if obj["as_json"]:
        echo_json({"items": [to_json(torz) for torz in added], "failed": failed})
    unfinished = wait and any(torz.status is not TorzStatus.DOWNLOADED for torz in added)
    return 1 if failed or unfinished else 0


def _sources(given: tuple[str, ...]) -> Iterator[str | Path]:
    """What each argument names: files and folders where there are such, else a link."""
    for text in given:
        path = Path(text)
        if _is_link(text):
            yield text
        elif path.is_dir():
            inside = sorted(path.glob("*.torrent"))
            if not inside:
                raise click.UsageError(f"There is no .torrent file in {plain(text)}.")
            yield from inside
        elif path.is_file():
            yield path
        elif text.endswith(".torrent"):
            raise click.UsageError(f"There is no file {plain(text)}.")
        else:
            yield text


def _is_link(text: str) -> bool:
    return text[:7].lower() == "magnet:" or "://" in text


def _refuse_large(path: Path) -> None:
    """Before all of somebody's film is read into memory. Raises InvalidTorrent."""
    if path.stat().st_size > MAX_BYTES:
        raise InvalidTorrent(hint=f"It is larger than {MAX_BYTES >> 20} MB, so it is no .torrent file.")


async def _add_all(client: Client, sources: list[str | Path], as_json: bool) -> tuple[list[Torz], list[str]]:
    added, failed = [], []
    for source in sources:
        try:
            if isinstance(source, Path):
                _refuse_large(source)
            torz = await client.add(source)
        except (TorzError, OSError, UnicodeError) as exc:
            why = exc.hint or exc.message if isinstance(exc, TorzError) else str(exc)
            failed.append(f"{source}: {why}")
            if not as_json:
                console.print(f"[red]Not added:[/] {clean(plain(str(source))[:80])}: {clean(why)}")
            continue
        added.append(torz)
        if not as_json:
            console.print(f"{clean(torz.id)}  {status(torz)}  {clean(torz.name) or torz.hash}")
    return added, failed


async def _wait_all(client: Client, torz: list[Torz], as_json: bool) -> list[Torz]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=as_json, transient=False) as bars:
        rows = {one.id: bars.add_task(_title(one), total=1, note="") for one in torz}

        def show(one: Torz) -> None:
            done, total = (one.transfer.done, one.transfer.total) if one.transfer else (1, 1)
            note = progress(one) if one.transfer else f"{status(one)} {size(one.size)}"
            bars.update(rows[one.id], description=_title(one), completed=done, total=total or 1, note=note)

        return await asyncio.gather(*(client.wait(one.id, on_change=show, every=0.5) for one in torz))


def _title(torz: Torz) -> str:
    return clean(plain(torz.name)[:50]) or str(torz.hash)[:12]
