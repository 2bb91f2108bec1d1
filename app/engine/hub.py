"""Who waits for what in this process.

No wake-up is lost: whoever waits registers first, reads second and waits third, and what wakes is only
ever a reason to read again. Those who publish do so after their commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from app.errors import Overloaded
from app.memory import Crowd

ANY = ""
"""Watches whatever happens to a workflow. No event key is empty."""
INBOX = "\0inbox"
"""Watches a workflow's messages. No event key has a control character."""
END = "\0end"
"""Watches for a workflow's end alone."""

SLICES = 30
"""A belt round the hints between processes: each beat, one in so many waiters reads again."""
AT_ONCE = 500
"""Waiters that read again together where there are no hints, and everybody does so often."""


class Watch:
    """One registration. `wait` ends when something was published since the last `wait`, or the time is up."""

    __slots__ = ("_future", "_hub", "_news", "place")

    def __init__(self, hub: Hub, place: tuple[str, str]) -> None:
        self._hub, self.place = hub, place
        self._news = False
        self._future: asyncio.Future[bool] | None = None

    async def wait(self, timeout: float | None = None) -> bool:
        """True: there may be news. False: `timeout` seconds went by without."""
        if self._news:
            self._news = False
            return True
        if timeout is not None and timeout <= 0:
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._future = future
        timer = None if timeout is None else loop.call_later(timeout, _expire, future)
        try:
            return await future
        finally:
            self._future = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        if self._future is None:
            self._news = True
        elif not self._future.done():
            self._future.set_result(True)


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)


class Hub:
    def __init__(self, seats: int) -> None:
        self._watches: dict[str, dict[str, set[Watch]]] = {}
        self._all: dict[Watch, None] = {}
        self._seats = seats
        self._seated = Crowd()
        self.draining = False

    def __len__(self) -> int:
        """How many are registered."""
        return len(self._all)

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Room for one waiting request; raises Overloaded when there is none."""
        if len(self._seated) >= self._seats:
            raise Overloaded(f"{self._seats} requests are waiting already; try again.")
        self._seated.enter()
        try:
            yield
        finally:
            self._seated.leave()

    @contextmanager
    def watch(self, workflow_id: str, key: str = ANY) -> Iterator[Watch]:
        """Be woken by sets of a key (or by anything, or by messages), and by the workflow's end."""
        watch = Watch(self, (workflow_id, key))
        self._watches.setdefault(workflow_id, {}).setdefault(key, set()).add(watch)
        self._all[watch] = None
        try:
            yield watch
        finally:
            self._leave(watch)

    def _leave(self, watch: Watch) -> None:
        del self._all[watch]
        workflow_id, key = watch.place
        keys = self._watches[workflow_id]
        keys[key].discard(watch)
        if not keys[key]:
            del keys[key]
            if not keys:
                del self._watches[workflow_id]

    def publish(self, workflow_id: str, keys: Iterable[str] = (), *, ended: bool = False) -> None:
        """Something was committed: these keys were set, or the workflow's status is another (`ended`)."""
        waiting = self._watches.get(workflow_id)
        if waiting is None:
            return
        for key in waiting if ended else {ANY, *keys}:
            for watch in waiting.get(key, ()):
                watch.wake()

    def wake_all(self) -> None:
        """Hints may have been missed: everybody reads again."""
        for watch in self._all:
            watch.wake()

    def wake_slice(self) -> None:
        """Have the longest unchecked part of the waiters read again."""
        self._wake_first(-(-len(self._all) // SLICES))

    def wake_some(self) -> None:
        """The same with as many as may read at once; so with a few waiters, all."""
        self._wake_first(AT_ONCE)

    def _wake_first(self, count: int) -> None:
        for watch in list(islice(self._all, count)):
            del self._all[watch]
            self._all[watch] = None
            watch.wake()

    def drain(self) -> None:
        """The process is to end: whoever waits for a client is to answer now."""
        self.draining = True
        self.wake_all()
