"""What every background duty is: something that starts, ticks, can be poked, and stops."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from app import telemetry
from app.errors import DatabaseUnavailable
from app.store import db

log = telemetry.logger(__name__)


_AWAY: tuple[type[Exception], ...] = (*db.FAILURES, DatabaseUnavailable)


class Service:
    """A duty that runs `tick` at least every `interval` seconds, and soon after each `poke`.

    `start` and `stop` may be called twice. A tick that raises is logged and tried again after a
    pause that doubles up to `interval` or a second, whichever is longer.
    """

    name = "service"

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def tick(self) -> None:
        raise NotImplementedError

    def pause(self) -> float:
        """Seconds until the next tick when nobody pokes."""
        return self._interval

    def poke(self) -> None:
        self._poked.set()

    async def start(self) -> None:
        if self._task is None:
            self._stopping = False
            self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Returns when the tick under way has ended."""
        if self._task is not None:
            self._stopping = True
            self._poked.set()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            self._poked.clear()
            try:
                await self.tick()
                failures = 0
            except _AWAY as error:
                failures += 1
                self.failed(error, failures)
            except Exception:
                failures += 1
                log.exception("a duty broke, and is tried again", duty=self.name)
            pause = self.pause() if not failures else min(0.05 * 2 ** min(failures, 10), max(1.0, self._interval))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause)):
                    await self._poked.wait()

    def failed(self, error: Exception, failures: int) -> None:
        """The database let a tick down. Said once for a row of failures."""
        if failures == 1:
            log.warning("the database let a duty down, which is tried again", duty=self.name, error=db.reason(error))
