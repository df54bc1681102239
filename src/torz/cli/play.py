"""torz play"""

import shutil
import subprocess
from typing import Any

import click

from torz.cli.output import clean, console, echo_json
from torz.cli.session import choose, find, run
from torz.client import Client
from torz.domain.torz import File

PLAYERS = ("mpv", "vlc", "ffplay")


@click.command()
@click.argument("id")
@click.argument("file", required=False)
@click.option("--player", help="The program to play with; by default " + ", ".join(PLAYERS) + ", whichever is there.")
@click.pass_obj
def command(obj: dict[str, Any], id: str, file: str | None, player: str | None) -> int:
    """Play a file, also while it is still being downloaded; without a player its link is printed."""

    async def work(client: Client) -> tuple[File, str]:
        chosen = choose(await find(client, id), file)
        return chosen, await client.link(chosen.link)

    chosen, url = run(obj, work)
    if player and not shutil.which(player):
        raise click.UsageError(f"There is no program {player}.")
    program = next((found for name in ((player,) if player else PLAYERS) if (found := shutil.which(name))), None)
    if obj["as_json"]:
        echo_json({"path": chosen.path, "link": url, "player": program})
        return 0
    if program is None:
        click.echo(url)
        return 0
    console.print(f"Playing {clean(chosen.name)} with {program}")
    played = subprocess.run([program, url], check=False)  # noqa: S603 - the user's own player, and our own link
    return 1 if played.returncode else 0
