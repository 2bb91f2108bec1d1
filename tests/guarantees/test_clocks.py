"""Time is the database's for whatever outlives a process, and monotonic for whatever does not.

What a process takes for the time of day is wrong here by an hour, or changes in the middle of something.
"""

import asyncio
import time
from collections.abc import Callable

import pytest

from app import Context
from app.model import ExecutorId, WorkflowId
from app.store import workflows
from tests.support import rows
from tests.support.beats import beat
from tests.support.engine import Engine, running
from tests.support.sessions import line, observer, under_way
from tests.support.waiting import eventually

HOUR = 3600.0
Shift = Callable[[float], None]


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> Shift:
    """Set the clock of this process that many seconds forward, or back, from what it really is."""
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


async def test_what_is_not_due_is_not_claimed(database_url):
    async with line(database_url) as claims, observer(database_url) as setup:
        for status in ("QUEUED", "WAITING"):
            for seconds in (-1, 2, 600):
                id = f"{status} {seconds}"
                await rows.add_workflow(setup, id, status=status)
                due = {"id": id, "seconds": seconds}
                await setup.rows(
                    "update workflows set wake_at = now() + %(seconds)s * interval '1 s' where id = %(id)s", due
                )
        taken = await workflows.claim(claims, ExecutorId("me"), [("shop", "1")], 10, suspect=True)
        assert sorted(owned.id for owned in taken) == ["QUEUED -1", "WAITING -1"]


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_wrong_changes_no_sleep(database_url, shift: Shift, hours):
    """It is neither short nor long, in memory and out of it."""
    shift(hours * HOUR)
    async with running(database_url, cache=0) as engine:

        @engine.workflow
        async def sleeps(ctx: Context, seconds: float) -> None:
            await ctx.sleep(seconds)

        long = await engine.begin(sleeps, 60)
        await engine.forgotten(long)
        short = await engine.begin(sleeps, 0.4)
        await engine.end(short)
        (row,) = await engine.rows(
            "select extract(epoch from w.completed_at - w.created_at)::float8 as lasted,"
            " abs(extract(epoch from s.completed_at - w.completed_at)::float8) as apart"
            " from workflows w join steps s on s.workflow_id = w.id where w.id = %s",
            short,
        )
        assert row["lasted"] >= 0.4
        assert row["apart"] < 30, "the record has another time than the database"
        assert await engine.status(long) == "WAITING"


async def test_a_clock_that_is_wrong_buries_nobody(database_url, shift: Shift):
    async with running(database_url, time_to_live=2.0) as one, running(database_url, time_to_live=2.0) as other:
        both, names, loop = (one, other), [one.executor, other.executor], asyncio.get_running_loop()
        # By then they know each other for long enough to tell who is silent.
        until = loop.time() + 2.5

        async def over() -> bool:
            for hours in (1, -1):
                shift(hours * HOUR)
                for engine in both:
                    await beat(engine)
            assert [engine.executor for engine in both] == names
            return loop.time() > until

        await eventually(over)
        assert await one.one("select count(*) from executors where alive") == 2


async def test_a_clock_that_jumps_hastens_no_answer_and_delays_none(engine: Engine, shift: Shift):
    @engine.workflow
    async def waits(ctx: Context) -> None:
        await ctx.receive("never")

    id = WorkflowId(await engine.begin(waits))
    await engine.forgotten(id) if engine.runtime.limits.cache == 0 else await engine.becomes(id, "WAITING")
    for seconds in (600, -600):
        shift(0)
        began = time.monotonic()
        async with under_way(engine.runtime.views.event(id, "k", after=0, timeout=0.5)) as reading:
            await eventually(lambda: len(engine.runtime.hub))
            shift(seconds)
            # Whoever is woken looks at the clock anew.
            engine.runtime.hub.wake_all()
            async with asyncio.timeout(5):
                assert (await reading).events["k"] is None
        assert 0.5 <= time.monotonic() - began < 3


async def test_a_wait_that_finds_nothing_ends_at_its_time(engine: Engine):
    """Not before it, be it ever so little; and soon after it."""

    @engine.workflow
    async def waits(ctx: Context) -> None:
        await ctx.receive("never")

    id = WorkflowId(await engine.begin(waits))

    async def lasts(timeout: float) -> float:
        began = time.monotonic()
        await engine.runtime.views.event(id, "k", after=0, timeout=timeout)
        return time.monotonic() - began - timeout

    over = sorted(await asyncio.gather(*(lasts(n * 0.0137) for n in range(60))))
    assert over[0] >= 0
    assert over[30] < 0.5
    assert over[-1] < 3


async def test_the_last_set_wins_whatever_the_clocks_say(database_url, shift: Shift):
    """It is the one of the greatest position. One process was an hour ahead, and its successor is an hour behind."""
    async with running(database_url) as engine:

        @engine.workflow
        async def publish(ctx: Context) -> None:
            await ctx.set_event("k", "first")
            await ctx.receive("go")
            await ctx.set_event("k", "last")

        shift(HOUR)
        id = await engine.begin(publish)
        await engine.published(id, "k", "first")
        shift(-HOUR)
        await engine.crash()
        await engine.send(id, "go")
        await engine.end(id)
        reading = await engine.runtime.views.event(WorkflowId(id), "k", after=0, timeout=0)
        event = reading.events["k"]
        assert event
        assert (event.position, event.value) == (2, '"last"')
        first, last = await engine.log(id)
        assert first["set_at"] < last["set_at"]
