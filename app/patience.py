"""How long somebody waits: time limits that take it into account when it is this process that is late.

A process with thousands of requests to begin at once may not get round for a second to reading an answer that
has long been there. Who only looks at the clock then takes the database for dead, and refuses everybody.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

PATIENCE: Final = 0.9
"""Seconds without an answer of the database to anybody after which whoever asks is told that it is away: so within a
second. What was sent may have been carried out all the same."""
MOMENT: Final = 0.05
"""Seconds between two looks at whether this process is on time."""
LATE: Final = 0.025
"""Seconds by which a look may come late, and that a turn of the loop may take."""
LOOKS: Final = 4
"""So many in a row must find it on time before a limit counts as reached."""
BUSY: Final = 20.0
"""Seconds beyond a limit that a busy process may take, at most."""


class Limit:
    """Calls back once, when `seconds` have passed and this process gets round to what it has to do."""

    __slots__ = ("_callback", "_handle", "_loop", "last", "since")

    def __init__(self, seconds: float, callback: Callable[[], None]) -> None:
        self._loop, self._callback = asyncio.get_running_loop(), callback
        now = self._loop.time()
        self.last = now + seconds + BUSY
        self.since = 0
        """The look after which it was due."""
        self._handle: asyncio.TimerHandle | None = self._loop.call_at(
            now + max(0.0, seconds - LOOKS * MOMENT), self._due
        )

    def _due(self) -> None:
        self._handle = None
        _Watch.of(self._loop).add(self)

    def reached(self) -> None:
        self._callback()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        elif (watch := _watches.get(self._loop)) is not None:
            watch.discard(self)


class _Watch:
    """Looks whether a loop is on time, as long as there is a limit that is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._limits: dict[Limit, None] = {}
        self._looks = self._on_time = 0
        self._next = loop.time() + MOMENT
        loop.call_at(self._next, self._look)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Watch:
        if (watch := _watches.get(loop)) is None:
            watch = _watches[loop] = cls(loop)
        return watch

    def add(self, limit: Limit) -> None:
        limit.since = self._looks
        self._limits[limit] = None

    def discard(self, limit: Limit) -> None:
        self._limits.pop(limit, None)

    def _look(self) -> None:
        now = self._loop.time()
        # A turn that began as planned may be a long one all the same.
        self._loop.call_soon(self._turned, now, now - self._next)

    def _turned(self, began: float, late: float) -> None:
        now = self._loop.time()
        self._looks += 1
        self._on_time = self._on_time + 1 if max(late, now - began) < LATE else 0
        # In the order in which they were due.
        while self._limits:
            limit = next(iter(self._limits))
            if min(self._on_time, self._looks - limit.since) < LOOKS and now < limit.last:
                break
            del self._limits[limit]
            limit.reached()
        if self._limits:
            self._next = now + MOMENT
            self._loop.call_at(self._next, self._look)
        else:
            del _watches[self._loop]


_watches: dict[asyncio.AbstractEventLoop, _Watch] = {}


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raises TimeoutError when it takes longer."""
    async with asyncio.timeout(None) as timeout:
        limit = Limit(seconds, lambda: timeout.reschedule(0))
        try:
            yield
        finally:
            limit.cancel()


W = TypeVar("W")


class Vigil(Generic[W]):
    """Watches over many who wait for answers of one source: when it has answered nobody for `patience` seconds, those
    who have waited as long are given up. To stand in a long queue that moves is no reason to."""

    def __init__(self, patience: float, give_up: Callable[[W], None]) -> None:
        self._patience, self._give_up = patience, give_up
        self._waiting: dict[W, float] = {}
        """Since when; in that order."""
        self._answered_at = float("-inf")
        self._limit: Limit | None = None

    def enter(self, who: W) -> None:
        self._waiting[who] = time.monotonic()
        if self._limit is None:
            self._limit = Limit(self._patience, self._look)

    def leave(self, who: W) -> None:
        self._waiting.pop(who, None)

    def answered(self) -> None:
        """Somebody was."""
        self._answered_at = time.monotonic()

    def _look(self) -> None:
        self._limit = None
        now = time.monotonic()
        while self._waiting:
            who, since = next(iter(self._waiting.items()))
            left = max(since, self._answered_at) + self._patience - now
            if left > 0:
                self._limit = Limit(left, self._look)
                return
            del self._waiting[who]
            self._give_up(who)


class Turnstile:
    """Lets so many in at a time, the others one after the other. Raises TimeoutError when nobody has come out for
    `patience` seconds."""

    def __init__(self, places: int, patience: float) -> None:
        self._free = places
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._vigil: Vigil[asyncio.Future[None]] = Vigil(patience, _turn_away)

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue[future] = None
        self._vigil.enter(future)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:
                self._leave()
            raise
        finally:
            self._vigil.leave(future)
            self._queue.pop(future, None)

    def _leave(self) -> None:
        self._vigil.answered()
        while self._queue:
            future, _ = self._queue.popitem(last=False)
            if not future.done():
                future.set_result(None)
                return
        self._free += 1


def _turn_away(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("nobody came out in time"))
