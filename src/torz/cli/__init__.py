"""The command line: one file a command, loaded when it is used."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from torz import __version__
from torz.cli.text import plain
from torz.domain.errors import TorzError

COMMANDS: Final = {
    "serve": "Start the server.",
    "add": "Add magnets, info hashes, URLs, .torrent files, or folders of them.",
    "ls": "List your torz.",
    "show": "Show one torz with its files.",
    "rm": "Remove torz.",
    "check": "Check which info hashes are cached.",
    "link": "Print a direct link to a file.",
    "get": "Download the files of a torz, and go on where it stopped.",
    "play": "Play a file, also while it is still being downloaded.",
    "store": "About the store.",
    "doctor": "Check this machine and the server, and say what to do.",
    "demo": "Prove the main job on this machine, without a network.",
}
"""Every command with its line of help. Its code is the function `command` of the module of that name."""


class Commands(click.Group):
    """Loads a command's module only when it is asked for, so that `--help` and `serve` start at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"torz.cli.{cmd_name}").command
        found.short_help = COMMANDS[cmd_name]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help="Where the server is; by default the one of the data folder.")
@click.option("--auth", help="user:password of the server; by default those that TORZ_AUTH or the data folder has.")
@click.option("--data-dir", help="The server's data folder, when it is not the default one.")
@click.option("--store", default="", help="A store of your own instead of the server's.")
@click.option("--token", default="", help="The token for that store.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.version_option(__version__, prog_name="torz")
@click.pass_context
def torz(ctx: click.Context, /, **given: Any) -> None:
    """One HTTP API over every place where a torrent can live."""
    ctx.obj = given


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: 0 when it did what it should, 1 when not, 2 for a wrong use, 130 when interrupted."""
    try:
        result = torz.main(args=_with_global_json(argv), prog_name="torz", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.UsageError as exc:
        exc.show()
        return 2
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except (TorzError, OSError) as exc:
        click.echo(f"torz: {plain(_sentence(exc))}", err=True)
        return 1


def _with_global_json(argv: Sequence[str] | None) -> list[str]:
    """`--json` may stand anywhere."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--json" in arguments and "--" not in arguments:
        return ["--json", *(argument for argument in arguments if argument != "--json")]
    return arguments


def _sentence(exc: BaseException) -> str:
    if isinstance(exc, TorzError):
        said = ": ".join(dict.fromkeys([exc.message, *(item.message for item in exc.items)]))
        return f"{said.rstrip('.')}. {exc.hint}".strip() if exc.hint else said
    return str(exc)
