"""torz link"""

from typing import Any

import click

from torz.cli.output import echo_json
from torz.cli.session import choose, find, run
from torz.client import Client


@click.command()
@click.argument("id")
@click.argument("file", required=False)
@click.pass_obj
def command(obj: dict[str, Any], id: str, file: str | None) -> None:
    """Print a direct link to a file: by number, path or name, or else the largest video."""

    async def work(client: Client) -> tuple[str, str]:
        chosen = choose(await find(client, id), file)
        return chosen.path, await client.link(chosen.link)

    path, url = run(obj, work)
    echo_json({"path": path, "link": url}) if obj["as_json"] else click.echo(url)
