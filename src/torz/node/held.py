"""One torrent as the node holds it."""

import asyncio
from typing import Any

from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import TorzStatus
from torz.node.scheduler import Scheduler
from torz.ports.node import Progress
from torz.ports.repo import Desired, Layout


class Held:
    """What is known of it while it is in the engine. `handle` is the engine's."""

    def __init__(self, row: Desired, magnet: Magnet, now: float) -> None:
        self.hash = row.hash
        self.revision = row.revision
        self.used_at = row.used_at
        self.magnet = magnet
        self.named: Magnet | None = None
        """What the row has said since it was loaded."""
        self.handle: Any = None
        self.added = asyncio.Event()
        """Set when the engine has answered that it has it, or that it will not."""
        self.removed = asyncio.Event()
        """Set when the engine has let go of its files."""
        self.torrent: Torrent | None = None
        self.layout: Layout | None = None
        self.count = 0
        """Pieces."""
        self.is_met = False
        """Whether its metadata is there, if only to be looked at."""
        self.is_wanted = False
        """Whether its data is wanted of the engine: once its metadata was looked at and written down."""
        self.status = TorzStatus.QUEUED
        self.message = ""
        self.complete = False
        self.said: Progress | None = None
        self.writing: asyncio.Task[None] | None = None
        """Brings the status to the rows."""
        self.unwritten = False
        """Whether the status changed since it was last written."""
        self.finishing: asyncio.Task[None] | None = None
        self.finished_again = False
        """The engine said so while we looked at the last time it did."""
        self.must_check = False
        """Its files have to be read before anything else, when its turn comes."""
        self.stalled = ""
        """Why it may not write, in a sentence; empty when it may."""
        self.failures = 0
        """How often in a row it could not write."""
        self.retry_at = 0.0
        """When it may try to write again."""
        self.rechecks = 0
        """How often its files were not what the engine believed, and were all read again."""
        self.saves: list[asyncio.Future[None]] = []
        """Those that wait for the engine to give resume data."""
        self.unsaved: tuple[bytes, asyncio.Future[None] | None] | None = None
        self.saving: asyncio.Task[None] | None = None
        self.saved_at = now
        # What follows is used only while somebody watches.
        self.watchers: set[int] = set()
        self.scheduler: Scheduler | None = None
        self.learning: asyncio.Task[None] | None = None
        """Finds out what is durable when the first one comes to watch."""
        self.passed = bytearray()
        """A bit for each piece whose hash was right."""
        self.durable = bytearray()
        """A bit for each piece that can be read from the files."""
        self.to_verify: set[int] = set()
        self.verifying: asyncio.Task[None] | None = None
        self.planning: asyncio.Handle | None = None
        self.flushed: list[asyncio.Future[None]] = []
        """Those that wait for what was written to reach the files."""

    @property
    def is_loaded(self) -> bool:
        return self.handle is not None

    @property
    def name(self) -> str:
        """For the log: never a tracker, never a hostile name."""
        return self.hash.hex()[:12]


def set_bit(bits: bytearray, index: int) -> None:
    bits[index >> 3] |= 0x80 >> (index & 7)


def has_bit(bits: bytearray, index: int) -> bool:
    return bool(bits[index >> 3] & (0x80 >> (index & 7)))


def pack_bits(flags: list[bool]) -> bytearray:
    bits = bytearray((len(flags) + 7) // 8)
    for index, flag in enumerate(flags):
        if flag:
            set_bit(bits, index)
    return bits
