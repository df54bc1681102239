"""torz get"""

from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from torz.cli.output import clean, console, echo_json
from torz.cli.session import choose, find, run
from torz.cli.text import plain
from torz.client import Client, destinations, safe_path
from torz.domain.errors import StoreConflict, StoreUnavailable
from torz.domain.torz import File


@click.command()
@click.argument("id")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Where to.")
@click.option(
    "--connections", "-c", default=4, show_default=True, type=click.IntRange(1, 16), help="At once, per file."
)
@click.pass_obj
def command(obj: dict[str, Any], id: str, files: tuple[str, ...], output: Path, connections: int) -> None:
    """Download the files of a torz: those named by number, path or name, or all. Run it again to go on."""

    async def work(client: Client) -> list[Path]:
        torz = await find(client, id)
        chosen = [choose(torz, name) for name in files] or [file for file in torz.files if file.link]
        if not chosen:
            raise StoreUnavailable("Its files are not known yet. Wait for the metadata: torz show " + torz.id)
        # A torrent of several files gets a folder of its name.
        folder = safe_path(output, torz.name.replace("/", "_")) if len(torz.files) > 1 else output
        places = dict(zip(torz.files, destinations(folder, [file.path for file in torz.files]), strict=True))
        return [await _fetch(client, file, places[file], connections, obj["as_json"]) for file in chosen]

    paths = run(obj, work)
    if obj["as_json"]:
        echo_json({"files": [str(path) for path in paths]})


async def _fetch(client: Client, file: File, path: Path, connections: int, quiet: bool) -> Path:
    if path.exists():
        if path.stat().st_size != file.size:
            raise StoreConflict(
                f"{path} is there already, and is something else. Move it away, or give another --output."
            )
        if not quiet:
            console.print(f"{clean(str(path))} is there already")
        return path
    url = await client.link(file.link)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet) as bars:
        row = bars.add_task(clean(plain(file.name)[:50]), total=file.size)
        return await client.download(
            url,
            path,
            connections=connections,
            on_progress=lambda done, total: bars.update(row, completed=done, total=total),
        )
