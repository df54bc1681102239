"""Keeps a process running: started, watched, restarted, stopped."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from torz.ports.clock import Clock

log = logging.getLogger("torz.supervisor")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_SETTLED = 30.0
"""Seconds after which a process counts as well, and its next end as the first."""


class Supervisor:
    """One child process. It holds the other end of our pipe, and ends by itself when that closes."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], clock: Clock) -> None:
        self._name = name
        self._command = command
        self._environ = environ
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"supervise {self._name}")

    async def stop(self, patience: float) -> None:
        """Ask it to end, wait for so many seconds, then make it end."""
        self._stopping = True
        process = self._process
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(patience):
                    await process.wait()
            except TimeoutError:
                log.warning("%s did not end within %g seconds and was killed", self._name, patience)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            started = self._clock.monotonic()
            code = await self._run_once()
            if self._stopping:
                return
            if self._clock.monotonic() - started > _SETTLED:
                pause = _FIRST_PAUSE
            log.error("%s ended with code %s; it is started again in %g seconds", self._name, code, pause)
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, env=dict(self._environ)
        )
        return await self._process.wait()
