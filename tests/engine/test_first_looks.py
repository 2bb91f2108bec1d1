"""A read that comes while its event is being committed waits a moment for that commit, before it asks the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app import Context
from app.engine import views
from app.engine.views import Mode
from app.model import WorkflowId
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
        yield id, gate, looks


async def test_it_is_answered_from_the_commit_without_a_look(engine: Engine, monkeypatch):
    monkeypatch.setattr(views, "ON_ITS_WAY", LONG)
    async with publishing(engine, url="https://pay.example", status="ready") as (id, gate, looks):
        reads = [
            asyncio.ensure_future(engine.runtime.views.events(id, keys, mode=mode, after=0, timeout=LONG))
            for keys, mode in ((["url"], Mode.ALL), (["status", "url"], Mode.ALL), (["url", "status"], Mode.ANY))
        ]
        await asyncio.wait(reads, timeout=0.1)
        assert not any(read.done() for read in reads)
        gate.open()
        for read in reads:
            found = {key: event.value for key, event in (await read).events.items() if event is not None}
            assert found.items() <= {"url": '"https://pay.example"', "status": '"ready"'}.items()
        assert looks == []


async def test_it_looks_when_the_commit_takes_long(engine: Engine):
    async with publishing(engine, status="ready") as (id, _, looks):
        async with asyncio.timeout(5 * PATIENCE):
            event = (await engine.runtime.views.event(id, "status", after=0, timeout=LONG)).events["status"]
        assert event is not None
        assert event.value == '"new"'
        assert len(looks) == 1


async def test_it_looks_at_once_for_what_the_commit_does_not_bring(engine: Engine, monkeypatch):
    monkeypatch.setattr(views, "ON_ITS_WAY", LONG)
    async with publishing(engine, status="ready") as (id, _, looks), asyncio.timeout(5 * PATIENCE):
        await engine.runtime.views.events(id, ["status", "other"], mode=Mode.ANY, after=0, timeout=LONG)
        assert len(looks) == 1


async def test_it_looks_at_once_when_it_may_not_wait(engine: Engine, monkeypatch):
    monkeypatch.setattr(views, "ON_ITS_WAY", LONG)
    async with publishing(engine, status="ready") as (id, _, looks):
        await engine.runtime.views.event(id, "status", after=0, timeout=0)
        engine.runtime.hub.draining = True
        await engine.runtime.views.event(id, "status", after=0, timeout=LONG)
        assert len(looks) == 2


async def test_it_waits_on_when_the_commit_is_not_what_it_waits_for(engine: Engine, monkeypatch):
    monkeypatch.setattr(views, "ON_ITS_WAY", LONG)
    async with publishing(engine, status="ready") as (id, gate, _):
        read = asyncio.ensure_future(engine.runtime.views.event(id, "status", after=2, timeout=0.2))
        gate.open()
        event = (await read).events["status"]
        assert event is not None
        assert (event.position, event.value) == (2, '"ready"')
