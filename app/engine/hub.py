"""Who waits for what in this process.

No wake-up is lost: whoever waits registers first, reads second and waits third. What wakes is a reason to read
again; what was committed by this very process comes along, for whoever finds all it wants in it. Those who publish do
so after their commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import NamedTuple, Self

from app.errors import Overloaded
from app.memory import Crowd
from app.model import Event, JsonText, Status

ANY = ""
"""Watches whatever happens to a workflow. No event key is empty."""
INBOX = "\0inbox"
"""Watches a workflow's messages. No event key has a control character."""
END = "\0end"
"""Watches for a workflow's end alone."""

SLICES = 40
"""A belt round the hints between processes: each beat, one in so many waiters reads again."""
AT_ONCE = 500
"""Waiters that read again together where there are no hints, and everybody does so often."""


class Commit(NamedTuple):
    """What a commit of a workflow has brought, and where it stood with that."""

    run: str
    status: Status
    error: JsonText | None
    position: int
    """The last one, if anything was set."""
    events: Mapping[str, Event]
    """The newest set of each key that was set in it."""


class Watch:
    """One registration, for as long as the context lasts; of a workflow that is still to be started, from `begin` on.
    `wait` ends when something was published since the last `wait`, or the time is up."""

    __slots__ = ("_future", "_hub", "_woken", "commit", "key", "workflow_id")

    def __init__(self, hub: Hub, key: str) -> None:
        self._hub, self.key = hub, key
        self.workflow_id = ""
        self._woken = False
        self._future: asyncio.Future[bool] | None = None
        self.commit: Commit | None = None
        """What ended the last `wait`, if it was a commit whose content is known. It was made since the one before."""

    def begin(self, workflow_id: str) -> None:
        """Register. What is published before is missed."""
        self.workflow_id = workflow_id
        self._hub.enter(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.workflow_id:
            self._hub.leave(self)

    async def wait(self, timeout: float | None = None) -> bool:
        """True: there may be news. False: `timeout` seconds went by without."""
        if self._woken:
            self._woken = False
            return True
        self.commit = None
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

    def wake(self, commit: Commit | None = None) -> None:
        if self._future is None:
            self._woken, self.commit = True, commit
        elif not self._future.done():
            self._future.set_result(True)
            self.commit = commit


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

    def seat(self) -> AbstractContextManager[None]:
        """Room for one waiting request, to be taken at once; raises Overloaded when there is none."""
        if len(self._seated) >= self._seats:
            raise Overloaded(f"{self._seats} requests are waiting already; try again.")
        return self._seated

    def watch(self, workflow_id: str | None, key: str = ANY) -> Watch:
        """Be woken by sets of a key (or by anything, or by messages), and by the workflow's end. None: the workflow is
        still to be started."""
        watch = Watch(self, key)
        if workflow_id is not None:
            watch.begin(workflow_id)
        return watch

    def enter(self, watch: Watch) -> None:
        self._watches.setdefault(watch.workflow_id, {}).setdefault(watch.key, set()).add(watch)
        self._all[watch] = None

    def leave(self, watch: Watch) -> None:
        del self._all[watch]
        keys = self._watches[watch.workflow_id]
        keys[watch.key].discard(watch)
        if not keys[watch.key]:
            del keys[watch.key]
            if not keys:
                del self._watches[watch.workflow_id]

    def publish(
        self,
        workflow_id: str,
        keys: Iterable[str] = (),
        *,
        ended: bool = False,
        told: Callable[[], Commit | None] | None = None,
    ) -> None:
        """Something was committed: these keys were set, or the workflow's status is another (`ended`). `told` says
        what it was, to whoever waits at this moment."""
        waiting = self._watches.get(workflow_id)
        if waiting is None:
            return
        commit = None if told is None else told()
        for key in waiting if ended else {ANY, *keys}:
            for watch in waiting.get(key, ()):
                watch.wake(commit)

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
