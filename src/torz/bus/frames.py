"""Frames between a node and those who use it: a length of 4 bytes, then msgpack.

`[id, command]` asks; what comes back is `[[id, result, error], nil]` for an answer and `[nil, [events, snapshot]]` for
news. Who asks with an id of 0 waits for no answer.
"""

import asyncio
from typing import Any

import msgspec

from torz.ports.node import Command, Event, PieceMap

MAX_FRAME = 64 << 20
"""Bytes. The largest real one is the snapshot of a node with a hundred thousand torrents."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    id: int
    command: Command


class Reply(msgspec.Struct, frozen=True, array_like=True):
    id: int
    result: PieceMap | None = None
    error: str = ""
    """Why it could not be done; empty when it was."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    events: list[Event]
    snapshot: bool = False
    """These events are all there is: what is not among them is no longer true."""


class Down(msgspec.Struct, frozen=True, array_like=True):
    """What a node sends: an answer, or news."""

    reply: Reply | None = None
    told: Told | None = None


calls = msgspec.msgpack.Decoder(Call)
downs = msgspec.msgpack.Decoder(Down)
_encode = msgspec.msgpack.Encoder().encode


def pack(message: Any) -> bytes:
    """A whole frame."""
    body = _encode(message)
    return len(body).to_bytes(4, "big") + body


async def read(reader: asyncio.StreamReader) -> bytes:
    """The next frame's body. Raises EOFError at the end, ValueError for a frame that is too long."""
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > MAX_FRAME:
        raise ValueError("the frame is too long")
    return await reader.readexactly(length)
