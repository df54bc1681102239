"""What the docs say is so."""

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [body for _, said, body in _FENCE.findall(page.read_text()) if said == language]


def prose(page: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))


@cache
def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_reference_is_what_the_tables_say() -> None:
    check = [sys.executable, "tools/make_docs.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_found_from_the_readme() -> None:
    found, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in found:
            found.add(page)
            links = (link.partition("#")[0] for link in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link))
            ahead += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert [name(page) for page in PAGES if page not in found] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_examples_can_be_read(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_shown_of_help_is_what_it_says(page: Path) -> None:
    """Console blocks of one command whose output does not depend on what a server holds."""
    for block in blocks(page, "console"):
        first, _, shown = block.partition("\n")
        words = first.removeprefix("$ ").removeprefix(".venv/bin/").split()
        if words == ["make", "help"]:
            assert shown.rstrip() == run("make", "--no-print-directory", "help").rstrip()
        elif page.parent.name != "reference" and words[0] == "torz" and words[-1] in ("--help", "--version"):
            assert shown.split() == run(sys.executable, "-m", "torz.cli", *words[1:]).split()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_examples_exist(page: Path) -> None:
    from torz.cli import COMMANDS

    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join(blocks(page, "sh") + blocks(page, "console"))
    assert set(re.findall(r"(?:^\$ |^|\.venv/bin/)torz (?:--json )?([a-z]+)", shell, re.MULTILINE)) <= set(COMMANDS)
    assert set(re.findall(r"^(?:\$ )?make (?:-C \S+ )?([a-z-]+)", shell, re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_in_the_text_exist(page: Path) -> None:
    from torz.config import SETTINGS

    known = {setting.variable for setting in SETTINGS} | {s.variable + "_FILE" for s in SETTINGS if s.secret}
    aliases = {alias for setting in SETTINGS for alias, _ in setting.aliases}
    said = set(re.findall(r"\b(?:TORZ|STREMTHRU)_[A-Z_]*[A-Z]\b", page.read_text()))
    assert said <= known | aliases | {"TORZ_CONFIG"}
