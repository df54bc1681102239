"""What a node says and takes: the process that owns the engine, seen from outside.

Hashes are the 20 raw bytes that go on the wire (`InfoHash.short`). Piece numbers and byte offsets are those of the
torrent, padding files included. No message asks for what could have been pushed.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from torz.domain.torz import TorzStatus


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """How one torrent gets on; pushed at most once a second, and only when it changed."""

    hash: bytes
    status: TorzStatus
    message: str = ""
    done: int = 0
    """Verified bytes of visible files."""
    total: int | None = None
    download_rate: int = 0
    upload_rate: int = 0
    peers: int = 0
    seeds: int = 0


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """The rows of a torrent changed: metadata came, it is complete, failed, lost its data, or is gone."""

    hash: bytes


class Durable(msgspec.Struct, frozen=True, array_like=True, tag="durable"):
    """These pieces of a watched torrent can be read from its files now: they are verified and written."""

    hash: bytes
    pieces: list[int]


class Lost(msgspec.Struct, frozen=True, array_like=True, tag="lost"):
    """Nothing of a watched torrent may be read any more: it was removed, or its data is being checked again."""

    hash: bytes


class Vitals(msgspec.Struct, frozen=True, array_like=True, tag="vitals"):
    """The node as a whole; pushed at connect and when it changed, at most once a second."""

    engine: str
    """The engine's name and version."""
    port: int = 0
    """Where peers reach it; 0 when it does not listen."""
    problem: str = ""
    """What is wrong with it, in a sentence that says what to do; empty when all is well."""
    torrents: int = 0
    peers: int = 0
    dht_nodes: int = 0
    download_rate: int = 0
    upload_rate: int = 0
    disk_free: int = 0


Event = Progress | Changed | Durable | Lost | Vitals


class PieceMap(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Watch`: what of a torrent can be read from its files at this moment."""

    piece_length: int
    count: int
    bits: bytes
    """One bit a piece, the highest bit of the first byte is piece 0."""


class Nudge(msgspec.Struct, frozen=True, array_like=True, tag="nudge"):
    """Desired rows changed; look at them now. Answered with None at once."""


class Watch(msgspec.Struct, frozen=True, array_like=True, tag="watch"):
    """Send `Durable` and `Lost` of this torrent on this connection from now on. Answered with a PieceMap.

    Refused (an error string) while the torrent's metadata is not known.
    """

    hash: bytes


class Unwatch(msgspec.Struct, frozen=True, array_like=True, tag="unwatch"):
    hash: bytes


class Read(msgspec.Struct, frozen=True, array_like=True, tag="read"):
    """A reader is at byte `start` of the torrent and wants all up to `stop`, in order.

    The first one of a `reader` opens it, a later one moves it; moving to a place outside the window is a seek.
    Readers belong to their connection and go with it.
    """

    reader: int
    hash: bytes
    start: int
    stop: int


class Unread(msgspec.Struct, frozen=True, array_like=True, tag="unread"):
    """The reader is gone; what it asked for is no longer urgent."""

    reader: int


Command = Nudge | Watch | Unwatch | Read | Unread


class NodeLink(Protocol):
    """A connection to a node that mends itself. While it is down, `alive` is false and commands raise Unavailable."""

    vitals: Vitals | None

    @property
    def alive(self) -> bool:
        """Whether the node is there."""

    def progress(self, hash: bytes) -> Progress | None:
        """The last thing heard of a torrent, while the node is there."""

    def nudge(self) -> None:
        """Tell the node that rows changed, now or as soon as it is back."""

    async def call(self, command: Command) -> PieceMap | None:
        """Send a command and wait for its answer, 10 s at most."""

    def listen(self, listener: Callable[[Event | None], None]) -> Callable[[], None]:
        """Hear every event; None means that the link was lost or came back, so what was learnt from it is stale.

        Returns what ends it.
        """


Handler = Callable[[Command, int], Awaitable[PieceMap | None]]
"""The node's side of a command: the command and the number of the connection it came over."""
