"""Write docs/reference from the tables in the code; with --check, only say what is stale."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from torz import cli
from torz.config import SETTINGS, Setting, text
from torz.domain.errors import TorzError
from torz.http.docs import DocsHandlers
from torz.http.health import HealthHandlers
from torz.http.links import LinkHandlers
from torz.http.routes import OPEN, routes
from torz.http.torz import TorzHandlers
from torz.stores import STORES
from torz.wire.errors import ROWS

MEASURED = "benchmarks.md"
"""Written by what measures, not from tables."""
FOLDER = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Written by tools/make_docs.py: change the table in the code, then `make docs`. -->"
WIDTH = 100
"""Letters in a line of help, whatever the terminal has."""


def settings() -> Iterator[str]:
    """The table of settings."""
    yield "# Settings"
    yield (
        "Each setting is a variable, a flag of `torz serve` and a key of the settings file. A flag wins over the "
        "variable, that over the file, that over the default. `TORZ_CONFIG` names the file; it is TOML, and its keys "
        "are the variables in lower case without `TORZ_`. A `TORZ_` variable or key that does not exist stops the "
        "start with the name that was probably meant."
    )
    yield (
        "A *secret* can also be read from a file: `TORZ_AUTH_FILE=/run/secrets/auth` stands for `TORZ_AUTH`. Secrets "
        "are never printed. A variable in the last column means the same and is read when ours is not set."
    )
    yield table(("variable", "default", "meaning", "also read"), map(_setting, SETTINGS))


def _setting(setting: Setting) -> Sequence[str]:
    form = "" if setting.parse is text else " *" + " ".join((setting.parse.__doc__ or "").split()) + "*"
    meaning = setting.help + form + (" **Secret.**" if setting.secret else "")
    default = f"`{setting.default}`" if setting.default else ""
    return f"`{setting.variable}`", default, meaning, ", ".join(f"`{name}`" for name, _ in setting.aliases)


def routes_page() -> Iterator[str]:
    """The table of routes."""
    yield "# Routes"
    yield (
        "The running server describes them in full, with every parameter and member, at `/docs` for people and at "
        "`/openapi.json` (OpenAPI 3.1) for programs. `GET` also answers `HEAD`, every path answers `OPTIONS`, and what "
        "a path does not take is `405` with `Allow`."
    )
    yield (
        "A *store* route needs access to a store: credentials of this server in `X-StremThru-Authorization`, or a "
        "store in `X-StremThru-Store-Name` with its token in `X-StremThru-Store-Authorization`. An *open* route needs "
        "nothing."
    )
    handlers: Any = (TorzHandlers, TorzHandlers, LinkHandlers, HealthHandlers, DocsHandlers)
    found = routes(*handlers)
    yield table(
        ("method", "path", "what it does", "access"),
        ((route.method, f"`{route.path}`", route.summary, route.entry.value) for route in found),
    )
    yield "## Why some are open"
    yield table(("path", "reason"), ((f"`{path}`", reason) for path, reason in OPEN.items()))


def errors() -> Iterator[str]:
    """The table of errors."""
    yield "# Errors"
    yield (
        'A failure is `{"error": …}` with one of these codes and statuses. Its `hint`, where there is one, says what '
        "to do. The routes below `/v0/store/torz` and the others have different envelopes; "
        "[Why error envelopes carry more](../why/why-error-envelopes-carry-more.md) shows both."
    )
    yield (
        "Python programs that use `torz.client` catch the class: it is the same on both sides of the network. A code "
        "in brackets is what the older generation of routes says instead."
    )
    rows = sorted(ROWS, key=lambda row: row.status)
    yield table(
        ("status", "code", "class", "default message"),
        (
            (
                str(row.status),
                f"`{row.code}`" + (f" (`{row.legacy_code}`)" if row.legacy_code else ""),
                f"`{row.error.__name__}`",
                _message(row.error),
            )
            for row in rows
        ),
    )


def _message(error: type[TorzError]) -> str:
    return (error.__doc__ or "").strip().splitlines()[0].rstrip(".")


def stores() -> Iterator[str]:
    """The table of stores."""
    yield "# Stores"
    yield (
        "`X-StremThru-Store-Name` takes the name; files say the code in `source`. *Verified* is the day on which a "
        "person last ran the suite on a real account."
    )
    yield table(
        ("name", "code", "token", "verified"),
        ((f"`{row.name}`", f"`{row.code}`", row.token, row.verified or "never") for row in STORES),
    )


def commands() -> Iterator[str]:
    """The help of each command."""
    yield "# Command line"
    yield from _command(click.Context(cli.torz, info_name="torz", terminal_width=WIDTH, max_content_width=WIDTH))


def _command(context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}"
    yield f"```console\n$ {context.command_path} --help\n{context.get_help().strip()}\n```"
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command and not command.hidden:
                yield from _command(
                    click.Context(command, context, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
                )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "settings.md": settings,
    "routes.md": routes_page,
    "errors.md": errors,
    "stores.md": stores,
    "cli.md": commands,
}


def pages() -> dict[Path, str]:
    """Each page of the reference as it has to be."""
    return {FOLDER / name: "\n\n".join([NOTE, *write()]) + "\n" for name, write in PAGES.items()}


def stale() -> list[Path]:
    """The pages that are not what the tables say, and those that nothing writes."""
    wanted = pages()
    wrong = [path for path, page in wanted.items() if not path.exists() or path.read_text() != page]
    return wrong + [path for path in FOLDER.glob("*.md") if path not in wanted and path.name != MEASURED]


def main() -> int:
    if "--check" in sys.argv[1:]:
        wrong = stale()
        for path in wrong:
            print(f"docs/reference/{path.name} is stale: make docs", file=sys.stderr)
        return len(wrong) and 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, page in pages().items():
        path.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
