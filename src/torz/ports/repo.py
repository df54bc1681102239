"""What Torz remembers, as the services and the node ask for it."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import File, TorzStatus


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where one file of a torrent lies: below the torrent's own folder, and in the torrent's piece space."""

    index: int
    path: str
    """As the engine names it on disk, relative to the torrent's folder; not always what the .torrent says."""
    offset: int
    size: int


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """The files of a torrent on disk, hidden ones left out."""

    piece_length: int
    places: list[Place]


class Desired(msgspec.Struct, frozen=True):
    """One row of what a node is to have."""

    hash: bytes
    revision: int
    """Grows with every change that the node has to look at."""
    wanted: bool
    """False: nobody holds it any more; remove it with its data, then `forget` the row."""
    magnet: str
    """The full magnet, with trackers and web seeds."""
    has_metainfo: bool
    status: TorzStatus
    complete: bool
    synced: bool
    """What is complete survives a power cut: its files were fsynced."""
    used_at: int
    """Unix seconds of its completion; the engine seeds the latest first."""


class HeldTorz(msgspec.Struct, frozen=True):
    """A torz row joined with what is known of its torrent."""

    id: str
    hash: bytes
    account: str
    name: str
    size: int | None
    private: bool
    visible: bool
    """False where the account named a private torrent by its hash alone: it is told nothing about it."""
    added_at: int
    status: TorzStatus
    message: str
    complete: bool
    files: bytes | None
    """The encoded file list, where asked for."""


class KnownTorrent(msgspec.Struct, frozen=True):
    """One row of what is known of torrents, for checks."""

    hash: bytes
    name: str
    private: bool
    complete: bool
    files: bytes | None
    """The encoded file list; None until metadata is known."""


class NodeRepo(Protocol):
    """The node's side: what is wanted, and what has become of it. Each call is one transaction."""

    async def desired(self, after: int, limit: int = 1000) -> list[Desired]:
        """Rows with a revision above `after`, by revision."""

    async def metainfo(self, hash: bytes) -> bytes | None:
        """The .torrent, when it is known."""

    async def learn(self, torrent: Torrent, hash: bytes) -> None:
        """Metadata came from the swarm: keep it, and let those who hold the torz see it."""

    async def lay_out(self, hash: bytes, layout: Layout) -> None:
        """Where the engine puts the files."""

    async def set_status(self, hash: bytes, status: TorzStatus, message: str = "") -> None:
        """What it is doing now, for when the node is not there to tell. Clears `complete` for any but DOWNLOADED."""

    async def complete(self, hash: bytes, at: int) -> None:
        """Every piece is verified and written. `at` in unix seconds."""

    async def synced(self, hash: bytes) -> None:
        """The files of what is complete were fsynced."""

    async def set_video_hash(self, hash: bytes, index: int, value: str) -> None:
        """OpenSubtitles' hash of one file."""

    async def forget(self, hash: bytes, revision: int) -> bool:
        """Drop an unwanted row. False when it changed since `revision`, because somebody wants it again."""


class TorzRepo(Protocol):
    """The API's side: who holds what."""

    async def add(self, account: str, source: Magnet | Torrent, at: int) -> str:
        """Hold a torrent, in one transaction with wanting it from the node. The torz id, old or new."""

    async def get(self, account: str, id: str) -> HeldTorz | None: ...

    def find(self, id: str) -> HeldTorz | None:
        """Whoever holds it, without files: for signed links, and quick enough to be asked without waiting."""

    async def files(self, hash: bytes) -> bytes | None:
        """The encoded file list of a torrent, once it is known."""

    async def list(self, account: str, limit: int, offset: int) -> tuple[list[HeldTorz], int]:
        """A slice without files, newest first, and how many there are."""

    async def remove(self, account: str, id: str) -> bytes | None:
        """Let go of a torrent; the last one out makes it unwanted. Its hash, or None if it was not held."""

    async def layout(self, hash: bytes) -> Layout | None: ...

    async def known(self, hashes: Sequence[bytes]) -> Sequence[KnownTorrent]:
        """The rows there are of these, in no order."""

    async def holds(self, account: str, hashes: Sequence[bytes]) -> set[bytes]:
        """Which of these the account may be told about although they are private."""


class SecretRepo(Protocol):
    """Keys and credentials of the server itself."""

    async def secret(self, name: str, size: int = 32) -> bytes:
        """A random key of so many bytes, made at the first call."""

    async def users(self) -> dict[str, bytes]:
        """User name to password hash."""

    async def add_user(self, name: str, password_hash: bytes) -> None: ...


def encode_files(files: Sequence[File]) -> bytes:
    """The stored form of a file list: JSON, in the wire's words, without links."""
    return msgspec.json.encode(
        [
            {
                "index": -1 if f.index is None else f.index,
                "path": f.path,
                "name": f.name,
                "size": -1 if f.size is None else f.size,
                **({"video_hash": f.video_hash} if f.video_hash else {}),
                **({"source": f.source} if f.source else {}),
            }
            for f in files
        ]
    )


class _StoredFile(msgspec.Struct):
    index: int
    path: str
    size: int
    video_hash: str = ""
    source: str = ""


_stored_files = msgspec.json.Decoder(list[_StoredFile])


def decode_files(data: bytes) -> list[File]:
    """Back from `encode_files`."""
    return [
        File(
            index=None if f.index < 0 else f.index,
            path=f.path,
            size=None if f.size < 0 else f.size,
            video_hash=f.video_hash,
            source=f.source,
        )
        for f in _stored_files.decode(data)
    ]
