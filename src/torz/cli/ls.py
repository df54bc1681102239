"""torz ls"""

from typing import Any

import click

from torz.cli.output import echo_json, print_list, to_json
from torz.cli.session import run
from torz.client import Client
from torz.domain.torz import Torz, TorzStatus


@click.command()
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--status", "wanted", type=click.Choice([status.value for status in TorzStatus]), help="Only these.")
@click.pass_obj
def command(obj: dict[str, Any], limit: int, everything: bool, wanted: str | None) -> None:
    """List your torz, newest first."""

    async def work(client: Client) -> tuple[list[Torz], int]:
        found: list[Torz] = []
        total = 0
        async for torz in client.all():
            total += 1
            if (wanted is None or torz.status == wanted) and (everything or len(found) < limit):
                found.append(torz)
        return found, total

    found, total = run(obj, work)
    if obj["as_json"]:
        echo_json({"items": [to_json(torz) for torz in found], "total_items": total})
    elif not total:
        click.echo("There is nothing yet. Add something: torz add <magnet>")
    else:
        print_list(found, total if wanted is None else len(found))
