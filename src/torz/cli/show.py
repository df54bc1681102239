"""torz show"""

from typing import Any

import click

from torz.cli.output import echo_json, print_torz, to_json
from torz.cli.session import find, run


@click.command()
@click.argument("id")
@click.pass_obj
def command(obj: dict[str, Any], id: str) -> None:
    """Show one torz with its files. ID may be shortened, or be the info hash."""
    torz = run(obj, lambda client: find(client, id))
    if obj["as_json"]:
        echo_json(to_json(torz))
    else:
        print_torz(torz)
