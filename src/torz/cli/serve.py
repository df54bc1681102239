"""torz serve"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from torz.config import SETTINGS, load


def _with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every setting, so that there is one table of them."""
    for setting in reversed(SETTINGS):
        shown = "" if setting.secret or not setting.default else f" [default: {setting.default}]"
        text = f"{setting.help}{shown} ({setting.variable})"
        command = click.option(setting.flag, setting.name, metavar="TEXT", help=text)(command)
    return command


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A TOML file of settings.")
@_with_settings
@click.pass_obj
def command(obj: dict[str, Any], /, config: Path | None, **flags: str | None) -> int:
    """Start the server and its engine. Stop them with Ctrl-C."""
    for name in ("data_dir", "auth", "url"):
        flags[name] = flags.get(name) or obj.get(name)
    settings = load(flags=flags, file=config)
    from torz.main import serve  # a second of imports that --help and a wrong setting need not wait for

    return serve(settings)
