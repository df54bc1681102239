"""Real peers on 127.0.0.1: torrents with their files, seeds that have them, and a tracker that knows the seeds."""

import asyncio
import hashlib
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote_to_bytes

import libtorrent as lt

from torz.domain.bencode import encode
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent

Version = Literal["v1", "v2", "hybrid"]
LOCAL = "127.0.0.1"
QUIET = {
    "listen_interfaces": f"{LOCAL}:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "webtorrent_stun_server": "",
    "dht_bootstrap_nodes": "",
    "allow_multiple_connections_per_ip": True,
    "stop_tracker_timeout": 1,
    "tick_interval": 100,
    "alert_mask": 0,
}
"""A session that talks to this machine alone."""
_FLAGS = {
    "v1": lt.create_torrent.v1_only,
    "v2": lt.create_torrent.v2_only,
    "hybrid": 0,
}


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that look like nothing else, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def make_torrent(
    folder: Path,
    files: bytes | dict[str, bytes],
    *,
    name: str = "Some.Movie.2024.mkv",
    version: Version = "v1",
    piece_length: int = 16384,
    private: bool = False,
    trackers: tuple[str, ...] = (),
) -> Torrent:
    """Write the files below `folder` and make a torrent of them: one file called `name`, or several below it."""
    entries = {name: files} if isinstance(files, bytes) else {f"{name}/{path}": data for path, data in files.items()}
    for path, data in entries.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    listed = [lt.create_file_entry(path, len(data)) for path, data in entries.items()]
    making = lt.create_torrent(listed, piece_length, _FLAGS[version])
    if private:
        making.set_priv(True)
    for tier, tracker in enumerate(trackers):
        making.add_tracker(tracker, tier)
    lt.set_piece_hashes(making, str(folder))
    return Torrent.parse(lt.bencode(making.generate()))


def bare_magnet(torrent: Torrent, *seeds: "Seed") -> Magnet:
    """A magnet that says no more than the hash and where the seeds are."""
    return Magnet(torrent.hash, torrent.v2, peers=tuple(seed.address for seed in seeds))


class Seed:
    """A peer that has torrents and sends them, at most so many bytes per second each; 0 sets no limit."""

    def __init__(self, torrent: Torrent, folder: Path, *, upload_limit: int = 0) -> None:
        """`folder` holds the files as `make_torrent` wrote them."""
        self._session: lt.session | None = lt.session(QUIET)
        self._limit = upload_limit
        self.add(torrent, folder)

    def add(self, torrent: Torrent, folder: Path) -> None:
        assert self._session
        params = lt.load_torrent_buffer(torrent.raw)
        params.save_path = str(folder)
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        params.flags |= lt.torrent_flags.seed_mode
        params.upload_limit = self._limit or -1
        self._session.add_torrent(params)

    @property
    def port(self) -> int:
        assert self._session
        return self._session.listen_port()

    @property
    def address(self) -> str:
        return f"{LOCAL}:{self.port}"

    def limit(self, rate: int) -> None:
        """Send at most so many bytes per second from now on."""
        assert self._session
        for handle in self._session.get_torrents():
            handle.set_upload_limit(rate)

    def pause(self) -> None:
        """Let everybody hang."""
        assert self._session
        self._session.pause()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._session = None


@contextmanager
def seeding(torrent: Torrent, folder: Path, count: int = 1, *, upload_limit: int = 0) -> Iterator[list[Seed]]:
    """Several seeds of one torrent."""
    seeds = [Seed(torrent, folder, upload_limit=upload_limit) for _ in range(count)]
    try:
        yield seeds
    finally:
        for seed in seeds:
            seed.__exit__()


class Tracker:
    """An HTTP tracker that names the seeds it was given and those that asked before."""

    def __init__(self, *seeds: Seed) -> None:
        self.seeds = list(seeds)
        self.asked: list[bytes] = []
        """Info hashes, in the order of the announces."""
        self.events: list[str] = []
        self.ports: list[int] = []
        """Of those that asked."""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOCAL, 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server
        self._server.close()

    @property
    def url(self) -> str:
        assert self._server
        return f"http://{LOCAL}:{self._server.sockets[0].getsockname()[1]}/announce"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            query = head.split(b" ")[1].partition(b"?")[2].decode("latin-1")
            given = {key: value for key, _, value in (part.partition("=") for part in query.split("&"))}
            self.asked.append(unquote_to_bytes(given.get("info_hash", "")))
            self.events.append(given.get("event", ""))
            ports = [*(seed.port for seed in self.seeds), *self.ports]
            self.ports.append(int(given.get("port", "0")))
            peers = b"".join(bytes([127, 0, 0, 1]) + struct.pack(">H", port) for port in ports)
            body = encode({b"interval": 1800, b"peers": peers})
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()


def same(folder: Path, found: Path) -> bool:
    """Whether every file below `folder` is, byte for byte, below `found`."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return bool(paths) and all(_digest(folder / path) == _digest(found / path) for path in paths)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha1").digest()
    except FileNotFoundError:
        return b""
