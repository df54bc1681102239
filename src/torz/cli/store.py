"""torz store user"""

from typing import Any

import click

from torz.cli.output import clean, console, echo_json
from torz.cli.session import run


@click.group()
def command() -> None:
    """About the store."""


@command.command()
@click.pass_obj
def user(obj: dict[str, Any]) -> None:
    """Whose account it is."""
    found = run(obj, lambda client: client.user())
    if obj["as_json"]:
        echo_json({"id": found.id, "email": found.email, "subscription_status": found.subscription.value})
    else:
        console.print(f"{clean(found.id)} {clean(found.email)} {found.subscription.value}")
