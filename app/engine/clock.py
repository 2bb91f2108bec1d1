"""The database's time, told without asking it.

Every beat sets the clock by the database's `now()`, taken before its answer arrived: so this clock
is late by up to a round trip and never early, whatever the clock of this machine does.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    def __init__(self) -> None:
        self._base = datetime.now(UTC)
        self._at = time.monotonic()

    def set(self, now: datetime) -> None:
        self._base, self._at = now.astimezone(UTC), time.monotonic()

    def catch_up(self, now: datetime) -> None:
        """The database told its time in passing: this clock is not behind it."""
        if now > self.now():
            self.set(now)

    def now(self) -> datetime:
        return self._base + timedelta(seconds=time.monotonic() - self._at)

    def until(self, when: datetime) -> float:
        """Seconds from now; negative when it has passed."""
        return (when - self.now()).total_seconds()
