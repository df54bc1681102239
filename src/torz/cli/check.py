"""torz check"""

import sys
from contextlib import suppress
from typing import Any

import click

from torz.cli.output import clean, console, echo_json, size
from torz.cli.session import run
from torz.cli.text import plain
from torz.domain.errors import InvalidInfoHash, InvalidMagnet
from torz.domain.infohash import InfoHash
from torz.domain.magnet import Magnet


@click.command()
@click.argument("hashes", nargs=-1, required=True, metavar="HASH...")
@click.option("--sid", help="A Stremio stream id that has to be among the files.")
@click.pass_obj
def command(obj: dict[str, Any], hashes: tuple[str, ...], sid: str | None) -> None:
    """Check which info hashes or magnets are cached. `-` reads them from standard input."""
    asked = [word for hash in hashes for word in (sys.stdin.read().split() if hash == "-" else [hash])]
    for text in asked:
        _parse(text)
    found = run(obj, lambda client: client.check(asked, sid))
    if obj["as_json"]:
        items = [{"hash": str(c.hash), "status": c.status.value, "name": c.name, "files": len(c.files)} for c in found]
        echo_json({"items": items})
        return
    for check in found:
        total = sum(file.size or 0 for file in check.files)
        console.print(
            f"{check.hash}  {check.status.value:8}  {size(total) if check.files else ''}  {clean(check.name)}"
        )
    if not found:
        click.echo("Nothing is known of these.")


def _parse(text: str) -> None:
    """The server leaves out what it cannot read; a person wants to hear of it."""
    with suppress(InvalidInfoHash, InvalidMagnet):
        Magnet.parse(text) if text[:7].lower() == "magnet:" else InfoHash.parse(text)
        return
    raise click.UsageError(f"This is no info hash and no magnet: {plain(text)[:80]}")
