"""One torrent as the node holds it."""

import asyncio
from typing import Any

from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import TorzStatus
from torz.node.scheduler import Scheduler
from torz.ports.node import Progress
from torz.ports.repo import Layout


class Held:
    """What is known of it while it is in the engine. `handle` is the engine's."""

    def __init__(self, hash: bytes, magnet: Magnet) -> None:
        self.hash = hash
        self.magnet = magnet
        self.handle: Any = None
        self.removed = asyncio.Event()
        """Set when the engine has let go of its files."""
        self.torrent: Torrent | None = None
        self.layout: Layout | None = None
        self.count = 0
        """Pieces."""
        self.status = TorzStatus.QUEUED
        self.message = ""
        self.complete = False
        self.finishing: asyncio.Task[None] | None = None
        self.said: Progress | None = None
        self.stalled = ""
        """Why it may not write, in a sentence; empty when it may."""
        self.saved_at = 0.0
        # What follows is used only while somebody watches.
        self.watchers: set[int] = set()
        self.scheduler: Scheduler | None = None
        self.passed = bytearray()
        """A bit for each piece whose hash was right."""
        self.durable = bytearray()
        """A bit for each piece that can be read from the files."""
        self.to_verify: set[int] = set()
        self.verifying: asyncio.Task[None] | None = None
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
