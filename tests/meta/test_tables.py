"""What must be complete is complete."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import torz
from torz.config import SETTINGS
from torz.domain.errors import TorzError, leaves
from torz.http.docs import DocsHandlers
from torz.http.health import HealthHandlers
from torz.http.links import LinkHandlers
from torz.http.routes import OPEN, routes
from torz.http.torz import TorzHandlers
from torz.http.typed import Entry, Route
from torz.http.videos import videos
from torz.stores import STORES
from torz.wire.errors import ROWS

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
KEPT = [
    path
    for folder in ("src", "tests", "tools", "docs", "bench", "fuzz", "requirements", ".ci")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".sql", ".md", ".lock", ".sh", ".json", "") and path.is_file()
    if "node_modules" not in path.parts and path != Path(__file__)
] + [*sorted(ROOT.glob("*.md")), ROOT / "Makefile", ROOT / "pyproject.toml"]

OPEN_ROUTES = {
    "/",
    "/docs",
    "/openapi.json",
    "/v0/health",
    "/v0/health/__debug__",
    "/v0/link/{token}",
    "/v0/link/{token}/{name}",
    "/v0/store/_/static/{name}",
}
"""Opening one more takes a second thought, and a line here."""

STREMTHRU = {
    "STREMTHRU_AUTH": "auth",
    "STREMTHRU_BASE_URL": "base_url",
    "STREMTHRU_DATA_DIR": "data_dir",
    "STREMTHRU_LISTEN_ADDR": "host port",
    "STREMTHRU_LOG_FORMAT": "log_format",
    "STREMTHRU_LOG_LEVEL": "log_level",
    "STREMTHRU_PORT": "port",
    "STREMTHRU_PROXY_AUTH": "auth",
    "STREMTHRU_STORE_AUTH": "store_auth",
    "STREMTHRU_TORZ_TORRENT_FILE_MAX_SIZE": "torrent_file_max_size",
}
VIDEOS = {
    *("200", "401", "403", "429", "451", "500"),
    "content_proxy_limit_reached",
    "download_failed",
    "downloading",
    "no_matching_file",
    "payment_required",
    "store_limit_exceeded",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def table() -> tuple[Route, ...]:
    handlers: Any = (TorzHandlers, TorzHandlers, LinkHandlers, HealthHandlers, DocsHandlers)
    return routes(*handlers)


# Errors


def spoken_of() -> set[type[TorzError]]:
    """The errors that a request can meet; those of the start and of the engine's process never reach the wire."""
    return {error for error in leaves(TorzError) if error.__module__ == "torz.domain.errors"}


def test_every_error_has_one_row() -> None:
    listed = [row.error for row in ROWS]
    assert len(listed) == len(set(listed))
    assert set(listed) == spoken_of()


def test_errors_of_other_modules_have_the_row_of_the_general_one() -> None:
    for module in pkgutil.walk_packages(torz.__path__, "torz."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    elsewhere = {error for error in leaves(TorzError) if error.__module__.startswith("torz.")} - spoken_of()
    assert {error.__bases__ for error in elsewhere} <= {(TorzError,)}


def test_every_error_says_what_is_wrong() -> None:
    for error in spoken_of():
        assert error().message


# Routes


def test_the_open_routes_are_these() -> None:
    found = {route.path for route in table() if route.entry is Entry.OPEN}
    assert found == OPEN_ROUTES == set(OPEN)
    assert all(OPEN.values())


def test_no_two_routes_are_the_same() -> None:
    found = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for route in table()]
    assert len(found) == len(set(found))


def test_every_route_says_what_it_does() -> None:
    assert all(route.summary for route in table())


def test_every_status_has_its_video() -> None:
    assert set(videos()) == VIDEOS
    for video in videos().values():
        assert video[4:8] == b"ftyp"
        assert video.index(b"moov") < video.index(b"mdat")
        assert len(video) < 12_000


# Settings


def test_every_setting_is_explained() -> None:
    for setting in SETTINGS:
        assert setting.help.endswith("."), setting.name
        assert setting.parse.__doc__, setting.name
        setting.parse(setting.default)


def test_settings_are_listed_once() -> None:
    names = [setting.name for setting in SETTINGS]
    assert len(names) == len(set(names))


def test_the_first_rows_are_those_that_everybody_needs() -> None:
    assert [setting.variable for setting in SETTINGS[:4]] == ["TORZ_HOST", "TORZ_PORT", "TORZ_DATA_DIR", "TORZ_AUTH"]


def test_the_aliases_are_these() -> None:
    found: dict[str, str] = {}
    for setting in SETTINGS:
        for alias, _ in setting.aliases:
            found[alias] = f"{found[alias]} {setting.name}" if alias in found else setting.name
    assert found == STREMTHRU


# Stores


def test_every_store_can_be_opened() -> None:
    for row in STORES:
        module, _, adapter = row.adapter.partition(":")
        assert hasattr(importlib.import_module(module), adapter)
        assert row.token


def test_stores_have_names_of_their_own() -> None:
    assert len({row.name for row in STORES}) == len({row.code for row in STORES}) == len(STORES)


# Sources


def test_layers_are_kept() -> None:
    lint = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout


def test_every_store_module_is_kept_apart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    apart = next(one for one in contracts if one["type"] == "independence")
    stores = {f"torz.stores.{path.stem}" for path in (ROOT / "src/torz/stores").glob("*.py")} - {"torz.stores.__init__"}
    assert set(apart["modules"]) == stores


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if tree.body:
        assert ast.get_docstring(tree), "no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_left_to_do(path: Path) -> None:
    assert not re.search(r"\b(?:TODO|FIXME|XXX|HACK)\b", path.read_text())


def test_no_machine_is_named() -> None:
    """Paths of whoever wrote it, and hosts of package indexes."""
    told = re.compile(r"/(?:work|root|home|Users)/\w|pypi\.org|pythonhosted|registry\.npmjs")
    found = [f"{name(path)}: {match[0]}" for path in KEPT if (match := told.search(path.read_text()))]
    assert found == []


# What is installed


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text()
    return {canonicalize_name(one): version for one, version in re.findall(r"^([\w.-]+)==([^ ;]+)", text, re.MULTILINE)}


@pytest.mark.parametrize("lock", ["runtime.lock", "dev.lock"])
def test_a_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^-|index|find-links", text, re.MULTILINE)
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_locks_fit_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime, dev = pins("runtime.lock"), pins("dev.lock")
    for needed, lock in (
        (project["project"]["dependencies"] + groups["build"] + project["build-system"]["requires"], runtime),
        (groups["dev"], dev),
    ):
        for text in needed:
            wanted = Requirement(text)
            assert lock[canonicalize_name(wanted.name)] in wanted.specifier, text
    assert runtime.items() <= dev.items()
