"""Time for tests: it stands still while anything runs, and jumps to the next timer when nothing does."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.errors import AuthoringError

# A finished step reaches the code behind a gather in a task group after a few rounds of the loop.
_QUIET_ROUNDS = 12


class Clock:
    """Seconds since the start of a run, and everything that waits for them to pass."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._timers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._waits: dict[asyncio.Future[Any], str] = {}
        self._running = 0
        self._stirs = 0
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Something happened: look again before time goes on."""
        self._stirs += 1
        self._stirred.set()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """While a step runs, no time passes."""
        self._running += 1
        self.stir()
        try:
            yield
        finally:
            self._running -= 1
            self.stir()

    def timer(self, seconds: float) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._timers, (self.elapsed + max(seconds, 0.0), next(self._order), future))
        return future

    async def sleep(self, seconds: float, what: str) -> None:
        await self.wait(self.timer(seconds), None, what)

    async def wait(self, future: asyncio.Future[Any], timeout: float | None, what: str) -> bool:
        """Wait for a future; False when the time was up first. `what` is for the message of a stand-still."""
        self.stir()
        limit = None if timeout is None else self.timer(timeout)
        self._waits[future] = what
        try:
            await asyncio.wait({future} if limit is None else {future, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._waits[future]
            if limit is not None:
                limit.cancel()
            self.stir()
        return future.done()

    async def drive(self, task: asyncio.Task[Any]) -> None:
        """Let time pass until the task has ended; raises AuthoringError when it waits for what can't come."""
        task.add_done_callback(lambda _: self.stir())
        while not task.done():
            await self._quiet(task)
            if task.done():
                return
            if self._running:
                self._stirred.clear()
                await self._stirred.wait()
            elif not self._waits:
                raise AuthoringError("The workflow waits for something that is not a durable call.")
            elif not self._advance():
                raise AuthoringError(f"The workflow would wait for ever: {', '.join(self._waits.values())}.")

    async def _quiet(self, task: asyncio.Task[Any]) -> None:
        rounds, seen = 0, self._stirs
        while rounds < _QUIET_ROUNDS and not task.done():
            await asyncio.sleep(0)
            rounds, seen = (rounds + 1, seen) if seen == self._stirs else (0, self._stirs)

    def _advance(self) -> bool:
        while self._timers:
            moment, _, future = heapq.heappop(self._timers)
            if not future.done():
                self.elapsed = moment
                future.set_result(None)
                return True
        return False
