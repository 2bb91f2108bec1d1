"""Whoever waits for an event is answered, in whatever order things happen.

The reader registers and looks; it has looked; it waits. Another process commits, and its hint is sent, and comes in.
The connection that hears hints is lost, and there is a new one. All orders of these, with the real parts, and nothing
that looks again by itself: there are so many other waiters that it is not the reader's turn.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from app.engine import notifier, points
from app.model import ExecutorId, WorkflowId
from app.store import notifications
from tests.support import rows
from tests.support.beats import beat
from tests.support.explore import Replica, here, replicas
from tests.support.schedules import interleavings
from tests.support.sessions import Session, observer
from tests.support.waiting import PATIENCE, eventually

WRITER = ExecutorId("writer")
OTHERS = 100
NEVER = 3600.0
PROMPT = 5.0


class Valve:
    """Holds whoever comes to a point, one after the other, until it is let through."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self.held = 0
        self.passed = 0

    async def __call__(self) -> None:
        self.held += 1
        try:
            await self._open.wait()
        finally:
            self.held -= 1
            self.passed += 1

    def open(self) -> None:
        self._open.set()


class Order:
    """One order of what happens to one reader of one workflow's event."""

    def __init__(self, replica: Replica, eye: Session, number: int, *, late: bool = False) -> None:
        """`late`: a hint that has come waits until it `is_heard`."""
        self._replica, self._eye, self._number = replica, eye, number
        self._id = WorkflowId(f"w{number}")
        self._looks, self._looked, self._hears, self._listens = Valve(), Valve(), Valve(), Valve()
        self._late = late
        self._reading: asyncio.Task[Any] | None = None
        if not late:
            self._hears.open()

    async def hook(self, point: str) -> None:
        if here() is not self._replica:
            return
        valves = {
            "lookup.before_glance": self._looks,
            "lookup.after_glance": self._looked,
            "listener.before_hear": self._hears,
            "listener.before_listen": self._listens,
        }
        if (valve := valves.get(point)) is not None:
            await valve()

    async def play(self, order: list[str]) -> bool:
        """Whether such an order is possible; whoever reads is answered then."""
        await rows.add_workflow(self._eye, self._id, executor_id=WRITER)
        points.install(self.hook)
        try:
            for happens in order:
                does: Callable[[], Awaitable[bool]] = getattr(self, f"_{happens}")
                if not await does():
                    return False
            assert self._reading
            async with asyncio.timeout(PROMPT * PATIENCE):
                reading = await self._reading
            assert reading.events["url"].value == '"there"'
            return True
        finally:
            points.install(None)
            for valve in (self._looks, self._looked, self._hears, self._listens):
                valve.open()
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait({self._reading})
            await eventually(listening(self._replica), message="nobody listens again")

    # ---- the reader

    async def _registers(self) -> bool:
        views = self._replica.runtime.views
        self._reading = self._replica.beside(views.event(self._id, "url", after=0, timeout=NEVER))
        await eventually(lambda: self._looks.held, message="it does not look")
        return True

    async def _looks_once(self) -> bool:
        self._looks.open()
        await eventually(lambda: self._looked.held, message="it has not looked")
        return True

    async def _waits(self) -> bool:
        self._looked.open()
        hub = self._replica.runtime.hub
        watches = hub._watches.get(self._id, {}).get("url", set())
        await eventually(lambda: self._done or all(watch._future for watch in watches), message="it does not wait")
        return True

    @property
    def _done(self) -> bool:
        return self._reading is not None and self._reading.done()

    # ---- the writer

    async def _commits(self) -> bool:
        await self._eye.rows(
            "insert into events (workflow_id, position, key, value, done, set_at)"
            " values (%(id)s, 1, 'url', '\"there\"', 0, now())",
            {"id": self._id},
        )
        return True

    async def _tells(self) -> bool:
        """Its hint is sent; and has come in, where somebody listens."""
        hint = notifications.payload(WRITER, self._number, [self._id])
        listens = await listening(self._replica)() and not self._listens.held
        await self._eye.rows("select pg_notify('milepost', %(hint)s)", {"hint": hint})
        if listens:
            came = (lambda: self._hears.held) if self._late else (lambda: self._hears.passed)
            await eventually(came, message="the hint does not come")
        return True

    async def _is_heard(self) -> bool:
        self._hears.open()
        await eventually(lambda: not self._hears.held, message="the hint is not heard")
        return True

    async def _publishes(self) -> bool:
        """It is this process itself."""
        self._replica.runtime._published(self._id, ["url"], False)
        return True

    async def _counts(self) -> bool:
        """Its hint is lost, and its heartbeat says that there was one."""
        await self._eye.rows("update executors set hint = hint + 1, heartbeat_at = now() where id = 'writer'")
        return True

    async def _beats(self) -> bool:
        await beat(self._replica)
        return True

    # ---- the connection that hears

    async def _cuts(self) -> bool:
        await self._eye.rows(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and application_name = 'milepost listener'"
        )
        if not self._hears.held:
            await eventually(lambda: self._listens.held, message="it does not try to listen again")
        return True

    async def _listens_again(self) -> bool:
        if self._hears.held:
            return False  # what had come before is heard first
        await eventually(lambda: self._listens.held, message="it does not try to listen again")
        self._listens.open()
        await eventually(listening(self._replica), message="nobody listens again")
        return True


def listening(replica: Replica) -> Callable[[], Awaitable[bool]]:
    """Whether there is a session that waits for hints."""

    async def there() -> bool:
        found = await replica.rows(
            "select from pg_stat_activity where datname = current_database()"
            " and application_name = 'milepost listener' and query like '%%pg_notify%%' and state = 'idle'"
        )
        return bool(found)

    return there


@pytest.fixture
async def replica(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replica]:
    """One that is surrounded by waiters, and looks for nothing by itself."""
    monkeypatch.setattr(notifier, "RETRY", 0.0)
    async with replicas(database_url, "reader") as (replica,):
        await eventually(listening(replica), message="nobody listens")
        with ExitStack() as others:
            for n in range(OTHERS):
                others.enter_context(replica.runtime.hub.watch(f"other {n}"))
            yield replica


READER = ["registers", "looks_once", "waits"]
ELSEWHERE = ["commits", "tells", "is_heard"]
PROMPTLY = ["commits", "tells"]
"""What is told is heard at once."""
CONNECTION = ["cuts", "listens_again"]

CASES: dict[str, tuple[list[list[str]], int, int]] = {
    "hints come late": ([READER, ELSEWHERE], 20, 20),
    "hints get lost": ([READER, PROMPTLY, CONNECTION], 210, 210),
}
"""What happens, in how many orders, and how many of them are possible at least."""
if os.environ.get("ENUMERATE") == "all":
    CASES["both"] = ([READER, ELSEWHERE, CONNECTION], 560, 400)


@pytest.mark.parametrize(("sequences", "orders", "possible"), CASES.values(), ids=list(CASES))
async def test_a_reader_is_answered_whatever_comes_between_its_looks(
    replica: Replica, database_url: str, sequences: list[list[str]], orders: int, possible: int
):
    outcomes: Counter[bool] = Counter()
    async with observer(database_url) as eye:
        for n, order in enumerate(interleavings(*sequences)):
            try:
                outcomes[await Order(replica, eye, n + 1, late="is_heard" in order).play(order)] += 1
            except BaseException as error:
                error.add_note(", ".join(order))
                raise
    print(f"{outcomes[True]} orders, and {outcomes[False]} that are impossible")
    assert outcomes.total() == orders
    assert outcomes[True] >= possible


async def test_a_reader_is_answered_by_what_its_own_process_commits(replica: Replica, database_url: str):
    async with observer(database_url) as eye:
        for n, order in enumerate(interleavings(READER, ["commits", "publishes"])):
            assert await Order(replica, eye, n + 1).play(order), order


async def test_a_reader_is_answered_by_the_beats_when_a_hint_never_comes(replica: Replica, database_url: str):
    """Its number came with the sender's heartbeat: at the next beat it should have been heard."""
    async with observer(database_url) as eye:
        await rows.add_executor(eye, WRITER)
        await beat(replica)
        for n, order in enumerate(interleavings(READER, ["commits", "counts", "beats", "beats"])):
            try:
                assert await Order(replica, eye, n + 1).play(order)
            except BaseException as error:
                error.add_note(", ".join(order))
                raise
