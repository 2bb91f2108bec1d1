"""What this process has committed it tells those who wait for it: just what they would have read, and no later."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from app import Context
from app.engine.commands import Start
from app.engine.views import Mode, Reading
from app.model import Status, WorkflowId
from tests.support.beats import rests
from tests.support.engine import Engine, running
from tests.support.points import at, once
from tests.support.readers import waiting
from tests.support.sessions import under_way
from tests.support.waiting import PATIENCE

LONG = 3600.0


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Nothing has anybody look but what it commits: it beats seldom, and listens to nobody."""
    async with running(database_url, beat=3600.0, notifications=False) as engine:
        await rests(engine)
        yield engine


def read(engine: Engine, id: str, *keys: str, mode: Mode = Mode.ALL, timeout: float = LONG):
    return engine.runtime.views.events(WorkflowId(id), keys, mode=mode, after=0, timeout=timeout)


@contextmanager
def looks() -> Iterator[list[str]]:
    """A line for each look at the database that has been made by a reader of events."""
    made: list[str] = []

    async def look() -> None:
        made.append("look")

    with at(lookup__after_glance=look):
        yield made


async def set_one(ctx: Context) -> None:
    await ctx.set_event("k", {"ü": [1.0, 1e300, -0.0, True, None, "\u2028", 10**30]})


async def set_twice(ctx: Context) -> None:
    await ctx.set_event("k", 1)
    await ctx.set_event("l", "in between")
    await ctx.set_event("k", 2)


async def fail(ctx: Context) -> None:
    await ctx.set_event("k", "before the end")
    raise ValueError("out of stock")


async def park(ctx: Context) -> None:
    await ctx.set_event("k", "before a long wait")
    await ctx.receive("never")


@pytest.mark.parametrize("function", [set_one, set_twice, fail, park], ids=lambda function: function.__name__)
async def test_what_a_commit_tells_is_what_a_look_sees(engine: Engine, function):
    """Its status can be another by the time of the look: that is the one thing that goes on."""

    async def work(ctx: Context) -> None:
        await ctx.receive("go")
        await function(ctx)

    engine.workflow(work)
    id = await engine.begin("work")
    with looks() as made:
        async with under_way(read(engine, id, "k")) as reading:
            await waiting(engine)
            made.clear()
            await engine.send(id, "go")
            told = await asyncio.wait_for(reading, 5 * PATIENCE)
        assert made == [], "it was not the commit that told"
    if function is park:
        await engine.becomes(id, "WAITING")
    else:
        await engine.end(id)
    seen = await read(engine, id, "k", timeout=0)
    assert told.events == seen.events
    assert (told.workflow_id, told.run, told.position) == (seen.workflow_id, seen.run, seen.position)
    assert told.status in (Status.RUNNING, seen.status)
    assert told.error in (None, seen.error)


async def test_a_commit_that_has_not_set_all_of_it_is_a_reason_to_look(engine: Engine):
    """What else is set, and since when, it does not know."""

    async def work(ctx: Context) -> None:
        await ctx.set_event("k", 1)
        await ctx.receive("go")
        await ctx.set_event("l", 2)

    engine.workflow(work)
    id = await engine.begin("work")
    await engine.published(id, "k", 1)
    with looks() as made:
        async with under_way(read(engine, id, "k", "l")) as reading:
            await waiting(engine)
            made.clear()
            await engine.send(id, "go")
            told = await asyncio.wait_for(reading, 5 * PATIENCE)
        assert made
    assert [event and event.value for event in told.events.values()] == ["1", "2"]


async def test_a_commit_whose_answer_was_lost_tells_nothing(engine: Engine):
    """It may have been made by the first try, at an earlier time than that of the answer."""

    async def work(ctx: Context) -> None:
        await ctx.receive("go")
        await ctx.set_event("k", 1)

    engine.workflow(work)
    id = await engine.begin("work")
    async with under_way(read(engine, id, "k")) as reading:
        await waiting(engine)
        await engine.becomes(id, "WAITING")
        with at(journal__after_flush=once(psycopg.OperationalError("the connection was cut by a test"))):
            await engine.send(id, "go")
            told = await asyncio.wait_for(reading, 5 * PATIENCE)
    assert told.events == (await read(engine, id, "k", timeout=0)).events


async def test_who_waits_since_before_the_start_need_not_look(engine: Engine):
    async def work(ctx: Context) -> None:
        await ctx.set_event("k", 1)
        await ctx.receive("go")

    engine.workflow(work)
    with looks() as made:
        reading = await started(engine, "k")
        assert made == []
    assert reading.events == (await read(engine, reading.workflow_id, "k", timeout=0)).events


async def test_who_waits_is_registered_before_anything_is_committed(engine: Engine):
    async def work(ctx: Context) -> None:
        await ctx.set_event("k", 1)

    engine.workflow(work)
    known: list[bool] = []

    async def about_to_commit() -> None:
        known.append(bool(engine.runtime.hub._watches))

    with at(journal__before_flush=about_to_commit):
        await started(engine, "k")
    assert known[0]
    assert engine.runtime.hub._watches == {}


async def started(engine: Engine, *keys: str) -> Reading:
    """What is read of a workflow by whoever has started it, and waits."""
    with engine.runtime.views.watch(keys) as watch:
        answer = await engine.runtime.commands.start(Start("work"), watch.begin)
        reading = engine.runtime.views.first_events(watch, answer.workflow, keys, mode=Mode.ALL, timeout=LONG)
        return await asyncio.wait_for(reading, 5 * PATIENCE)
