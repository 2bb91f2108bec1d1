"""Deadlines: ends workflows whose time is over, wherever they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from app import telemetry
from app.engine import failures
from app.engine.points import around
from app.engine.service import Service
from app.errors import TimedOut
from app.model import JsonText, Status
from app.store import db, workflows

log = telemetry.logger(__name__)

End = Callable[[Sequence[tuple[str, int]], Status, JsonText], Awaitable[None]]


class Deadlines(Service):
    """Ticks when a deadline passes: each beat tells when the next one does."""

    name = "deadlines"

    def __init__(self, database: db.Database, *, end: End) -> None:
        super().__init__(interval=3600.0)
        self._line = db.Line(database, "deadlines")
        self._end = end
        self._alarm: asyncio.TimerHandle | None = None

    def expect(self, seconds: float) -> None:
        """The next deadline is so far away."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, seconds), self.poke)

    async def tick(self) -> None:
        reason = failures.describe(TimedOut("The workflow had not ended when its time was up."))
        while overdue := await around("deadlines.read", workflows.overdue(self._line)):
            await self._end(overdue, Status.TIMED_OUT, reason)

    async def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        await super().stop()
        await self._line.close()
