"""torz rm"""

from typing import Any

import click

from torz.cli.output import clean, console, echo_json
from torz.cli.session import confirm, find, run
from torz.client import Client
from torz.domain.torz import Torz


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(obj: dict[str, Any], ids: tuple[str, ...], yes: bool) -> None:
    """Remove torz. Data that nobody else holds is deleted with them."""

    async def look(client: Client) -> list[Torz]:
        return [await find(client, id) for id in ids]

    async def remove(client: Client) -> None:
        for torz in found:
            await client.remove(torz.id)

    found = list({torz.id: torz for torz in run(obj, look)}.values())
    confirm(f"Remove {len(found)} torz?", yes)
    run(obj, remove)
    if obj["as_json"]:
        echo_json({"removed": [torz.id for torz in found]})
    else:
        for torz in found:
            console.print(f"Removed {clean(torz.id)} {clean(torz.name)}")
