"""What the commands share that talk to a server: who we are there, and which torz is meant."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from torz.client import Client
from torz.config import Config, load
from torz.domain.errors import StoreUnavailable, TorzNotFound
from torz.domain.torz import File, Torz
from torz.domain.videohash import is_video

T = TypeVar("T")
LOCAL = "local-credentials"


def settings(obj: dict[str, Any]) -> Config:
    """The settings as the server on this machine has them."""
    return load(flags={"data_dir": obj.get("data_dir")})


def connect(obj: dict[str, Any]) -> Client:
    """A client by what was given, else by the environment, else by what the server left in its data folder."""
    config = settings(obj)
    url, auth = obj.get("url") or config.url, obj.get("auth") or ""
    left = _left_by_server(Path(config.data_dir))
    if not auth and not url and left:
        url, auth = left
    if not auth:
        is_ours = left and (not url or _same_server(url, left[0]))
        auth = next(iter(config.auth.split(",")), "").strip() or (left[1] if left and is_ours else "")
    host = config.host[0] if config.host else "127.0.0.1"
    url = url or (left[0] if left else f"http://{f'[{host}]' if ':' in host else host}:{config.port}")
    return Client(url, auth=auth, store=obj.get("store") or "", token=obj.get("token") or "")


def _same_server(one: str, other: str) -> bool:
    """Whether both lead to one server of this machine: what it left here is for no other."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    return parts.scheme, host, port, parts.path.rstrip("/")


def _left_by_server(data: Path) -> tuple[str, str] | None:
    try:
        address, credentials = (data / LOCAL).read_text().split("\n")[:2]
    except (OSError, ValueError):  # nothing there, or nothing of ours
        return None
    return address, credentials


def run(obj: dict[str, Any], work: Callable[[Client], Awaitable[T]]) -> T:
    """Do something with a client, in a loop of its own."""

    async def inside() -> T:
        async with connect(obj) as client:
            return await work(client)

    return asyncio.run(inside())


async def find(client: Client, text: str) -> Torz:
    """The torz of an id, of the beginning of one, or of an info hash. Raises TorzNotFound."""
    try:
        return await client.get(text)
    except TorzNotFound:
        pass
    found = [one async for one in client.all() if one.id.startswith(text) or str(one.hash) == text.lower()]
    if len(found) != 1:
        many = f"{len(found)} torz begin with {text}; give more of the id." if found else f"There is no torz {text}."
        raise TorzNotFound(many, hint="" if found else "`torz ls` shows which there are.")
    return await client.get(found[0].id)


def choose(torz: Torz, text: str | None) -> File:
    """The file of an index, a path or a name; without any the largest video, or the largest file."""
    files = [file for file in torz.files if file.link]
    if not files:
        raise StoreUnavailable("Its files are not known yet. Wait for the metadata: torz show " + torz.id)
    if text is None:
        return max(files, key=lambda file: (is_video(file.name), file.size or 0))
    for file in files:
        if text in (str(file.index), file.path, file.path.lstrip("/"), file.name):
            return file
    raise TorzNotFound(f"It has no file {text}.", hint=f"`torz show {torz.id}` lists them.")


def confirm(question: str, yes: bool) -> None:
    """Ask a person; a program means what it says."""
    if not yes and sys.stdin.isatty() and not click.confirm(question):
        raise click.ClickException("Nothing was done.")
