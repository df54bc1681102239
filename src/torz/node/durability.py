"""Resume data: asked of the engine, and written one after the other for each torrent."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import libtorrent as lt

from torz.node.files import DataFolder
from torz.node.held import Held

log = logging.getLogger("torz.node")

_FLAGS = lt.save_resume_flags_t.only_if_modified | lt.save_resume_flags_t.save_info_dict
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class Resume:
    """Every question to the engine has exactly one answer, so that answers are told apart by their order."""

    def __init__(self, data: DataFolder, in_thread: InThread) -> None:
        self._data = data
        self._in_thread = in_thread

    def ask(self, held: Held) -> "asyncio.Future[None]":
        """What is given is done when that is written which changed since the last time, if anything did."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            held.handle.save_resume_data(_FLAGS)
        except RuntimeError:  # removed meanwhile
            done.set_result(None)
        else:
            held.saves.append(done)
        return done

    def answered(self, held: Held, data: bytes | None) -> None:
        """The engine gave it, or said that nothing changed."""
        done = held.saves.pop(0) if held.saves else None
        if data is None:
            _settle(done)
            return
        if held.unsaved is not None:  # it was overtaken
            _settle(held.unsaved[1])
        held.unsaved = data, done
        if held.saving is None:
            held.saving = asyncio.create_task(self._write(held))

    async def _write(self, held: Held) -> None:
        try:
            while held.unsaved is not None:
                (data, done), held.unsaved = held.unsaved, None
                try:
                    await self._in_thread(partial(self._data.write_resume, held.hash, data))
                except OSError as exc:
                    log.warning("the resume data of %s cannot be written: %s", held.name, exc.strerror)
                finally:
                    _settle(done)
        finally:
            held.saving = None

    async def quiesce(self, held: Held) -> None:
        """Wait until nothing is being written."""
        if held.saving:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([held.saving])

    def lost(self, held: Held) -> None:
        """Answers may have been missed: nobody waits for them any more."""
        for done in held.saves:
            _settle(done)
        held.saves = []


def _settle(done: "asyncio.Future[None] | None") -> None:
    if done and not done.done():
        done.set_result(None)
