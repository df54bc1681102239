"""torz get"""

from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from torz.cli.output import clean, console, echo_json
from torz.cli.session import choose, find, run
from torz.client import Client, download
from torz.client.download import safe_path
from torz.domain.torz import File, Torz


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
        return [await _fetch(client, torz, file, output, connections, obj["as_json"]) for file in chosen]

    paths = run(obj, work)
    if obj["as_json"]:
        echo_json({"files": [str(path) for path in paths]})


async def _fetch(client: Client, torz: Torz, file: File, output: Path, connections: int, quiet: bool) -> Path:
    """A torrent of several files gets a folder of its name."""
    folder = safe_path(output, torz.name) if len(torz.files) > 1 else output
    path = safe_path(folder, file.path)
    if path.exists() and path.stat().st_size == file.size:
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
        row = bars.add_task(clean(file.name)[:50], total=file.size)
        return await download(
            client.session,
            url,
            path,
            connections=connections,
            on_progress=lambda done, total: bars.update(row, completed=done, total=total),
        )
