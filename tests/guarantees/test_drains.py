"""A process that is told to end: it answers, takes nothing new, and leaves what it has to the others."""

import asyncio

import pytest

from app import Context
from app.errors import Draining
from app.model import WorkflowId
from tests.support.engine import Engine, running
from tests.support.readers import waiting
from tests.support.sessions import under_way
from tests.support.waiting import PATIENCE, eventually


def worker(engine: Engine, name: str, go: asyncio.Event):
    async def wait() -> str:
        engine.ran.append(name)
        await go.wait()
        return name

    @engine.workflow(name="work")
    async def work(ctx: Context) -> str:
        return await ctx.step(wait)

    return work


async def test_a_drain_answers_whoever_waits(engine: Engine):
    go = asyncio.Event()
    id = await engine.begin(worker(engine, "here", go))
    views = engine.runtime.views
    async with (
        under_way(views.event(WorkflowId(id), "k", after=0, timeout=3600)) as event,
        under_way(views.result(WorkflowId(id), 3600)) as result,
    ):
        await waiting(engine, 2)
        async with under_way(engine.runtime.drain()):
            async with asyncio.timeout(2 * PATIENCE):
                assert (await event).events["k"] is None
                assert (await result).status == "RUNNING"


async def test_a_drain_takes_no_new_work(engine: Engine):
    go = asyncio.Event()
    work = worker(engine, "here", go)
    async with under_way(engine.runtime.drain()):
        await eventually(lambda: engine.runtime.draining)
        with pytest.raises(Draining):
            await engine.begin(work, id="late")
        with pytest.raises(Draining):
            await engine.runtime.ready()
    assert await engine.status("late") is None


async def test_what_is_left_is_handed_over_at_once(database_url):
    """It counts as no loss, and nobody waits until somebody is found to be missing."""
    async with running(database_url, grace=0.1) as leaving, running(database_url) as staying:
        go, later = asyncio.Event(), asyncio.Event()
        later.set()
        worker(leaving, "here", go)
        worker(staying, "there", later)
        ids = [await leaving.begin("work", id=f"w{n}") for n in range(5)]
        await leaving.noted_times("here", 5)
        await leaving.stop()
        async with asyncio.timeout(4 * PATIENCE):
            assert [await staying.output(id) for id in ids] == ["there"] * 5
        assert {row["attempts"] for row in await staying.rows("select attempts from workflows")} == {1}
        assert await staying.one("select count(*) from executors") == 1
