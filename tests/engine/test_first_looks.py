"""A read of what a workflow of this process has not set yet waits a moment for it, before it asks the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app import Context
from app.engine import scribe, views
from app.engine.views import Mode
from app.model import Status, WorkflowId
from tests.support.engine import Engine, running
from tests.support.points import Gate, at
from tests.support.waiting import PATIENCE

LONG = 60.0
"""Seconds; nobody waits for it."""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """One whose heart does not beat meanwhile: at each beat, some who wait look again."""
    async with running(database_url, beat=LONG) as engine:
        yield engine


@pytest.fixture
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment is so long that whoever waits for it is found out."""
    monkeypatch.setattr(views, "HEAD_START", LONG)


@asynccontextmanager
async def publishing(engine: Engine, **events: Any) -> AsyncIterator[tuple[WorkflowId, Gate, list[str]]]:
    """A workflow that has set `status` to "new", and whose next flush, of these events, is held; each look at an event
    is noted."""
    go, gate, looks = asyncio.Event(), Gate(), []

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.set_event("status", "new")
        await ctx.step(go.wait)
        for key, value in events.items():
            await ctx.set_event(key, value)
        await ctx.receive("end")

    async def looked() -> None:
        looks.append("look")

    id = WorkflowId(await engine.begin(program))
    await engine.published(id, "status", "new")
    with at(journal__before_flush=gate, lookup__before_glance=looked):
        go.set()
        await gate.reached()
        async with asyncio.timeout(5 * PATIENCE):
            yield id, gate, looks


async def read(engine: Engine, id: WorkflowId, *keys: str, mode: Mode = Mode.ALL, timeout: float = LONG) -> Any:
    """What these keys were set to, None: not yet."""
    reading = await engine.runtime.views.events(id, keys, mode=mode, after=0, timeout=timeout)
    return [None if event is None else event.value for event in reading.events.values()]


@pytest.mark.usefixtures("ample")
async def test_it_is_answered_from_the_commit_without_a_look(engine: Engine):
    async with publishing(engine, url="https://pay.example", status="ready") as (id, gate, looks):
        reads = [asyncio.ensure_future(read(engine, id, *keys)) for keys in (["url"], ["status", "url"])]
        await asyncio.wait(reads, timeout=0.1)
        assert not any(read.done() for read in reads)
        gate.open()
        assert await asyncio.gather(*reads) == [['"https://pay.example"'], ['"ready"', '"https://pay.example"']]
        assert looks == []


async def test_it_looks_when_nothing_comes(engine: Engine):
    """What became of the workflow may have been somebody else's doing."""
    async with publishing(engine, url="https://pay.example") as (id, _, looks):
        await engine.execute(
            "update workflows set status = 'CANCELLED', updated_at = now(), completed_at = now(), wake_at = null"
        )
        reading = await engine.runtime.views.event(id, "url", after=0, timeout=LONG)
        assert (reading.events["url"], reading.status) == (None, Status.CANCELLED)
        assert len(looks) == 1


@pytest.mark.usefixtures("ample")
async def test_it_looks_at_once_for_what_was_set(engine: Engine):
    async with publishing(engine, status="ready", url="https://pay.example") as (id, _, looks):
        assert await read(engine, id, "status") == ['"new"']
        assert await read(engine, id, "status", "url", mode=Mode.ANY) == ['"new"', None]
        assert len(looks) == 2


@pytest.mark.usefixtures("ample")
async def test_it_looks_at_once_for_what_may_have_been_set_in_an_earlier_life(engine: Engine):
    async def work() -> None:
        engine.ran.append("works")
        await asyncio.Event().wait()

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.set_event("status", "new")
        await ctx.receive("go")
        await ctx.step(work)

    id = WorkflowId(await engine.begin(program))
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "go")
    await engine.noted("works")
    async with asyncio.timeout(5 * PATIENCE):
        assert await read(engine, id, "status") == ['"new"']


@pytest.mark.usefixtures("ample")
async def test_it_looks_at_once_when_a_workflow_has_set_more_keys_than_are_kept(engine: Engine, monkeypatch):
    monkeypatch.setattr(scribe, "MAX_KEYS", 1)
    async with publishing(engine, url="https://pay.example") as (id, _, looks):
        assert await read(engine, id, "url", timeout=0.2) == [None]
        assert len(looks) > 1  # the last one when its time was up


@pytest.mark.usefixtures("ample")
async def test_it_looks_at_once_when_it_may_not_wait(engine: Engine):
    async with publishing(engine, url="https://pay.example") as (id, _, looks):
        assert await read(engine, id, "url", timeout=0) == [None]
        engine.runtime.hub.draining = True
        assert await read(engine, id, "url") == [None]
        assert len(looks) == 2


@pytest.mark.usefixtures("ample")
async def test_it_waits_on_when_the_commit_is_not_what_it_waits_for(engine: Engine):
    async with publishing(engine, url="https://pay.example") as (id, gate, _):
        reading = asyncio.ensure_future(engine.runtime.views.event(id, "url", after=2, timeout=0.2))
        gate.open()
        event = (await reading).events["url"]
        assert event is not None
        assert (event.position, event.value) == (2, '"https://pay.example"')


@pytest.mark.usefixtures("ample")
async def test_who_waits_for_the_end_is_told_by_it(engine: Engine):
    go, looks = asyncio.Event(), []

    @engine.workflow
    async def program(ctx: Context) -> str:
        await ctx.step(go.wait)
        return "done"

    async def looked() -> None:
        looks.append("look")

    id = WorkflowId(await engine.begin(program))
    with at(lookup__before_glance=looked):
        result = asyncio.ensure_future(engine.runtime.views.result(id, LONG))
        await asyncio.wait([result], timeout=0.1)
        go.set()
        async with asyncio.timeout(5 * PATIENCE):
            assert (await result).output == '"done"'
    assert looks == []
