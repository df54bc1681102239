"""torz check"""

import sys
from typing import Any

import click

from torz.cli.output import clean, console, echo_json, size
from torz.cli.session import run


@click.command()
@click.argument("hashes", nargs=-1, required=True, metavar="HASH...")
@click.option("--sid", help="A Stremio stream id that has to be among the files.")
@click.pass_obj
def command(obj: dict[str, Any], hashes: tuple[str, ...], sid: str | None) -> None:
    """Check which info hashes or magnets are cached. `-` reads them from standard input."""
    asked = [word for hash in hashes for word in (sys.stdin.read().split() if hash == "-" else [hash])]
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
