"""Without notifications, by choice or behind a pooler, everybody who waits for others reads again often."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from app import Context
from app.engine import hub
from app.engine.hub import Hub
from app.model import WorkflowId
from tests.support.beats import rests
from tests.support.engine import Engine, running

W = WorkflowId("w")
NEVER = 3600.0
LISTENERS = """
select count(*) from pg_stat_activity
where application_name = 'milepost listener' and datname = current_database()
"""


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[tuple[Engine, Engine]]:
    """Two that know of each other, and never beat again."""
    async with AsyncExitStack() as both:
        here, there = [
            await both.enter_async_context(running(database_url, beat=NEVER, notifications=False)) for _ in range(2)
        ]
        for engine in (here, there):
            await engine.runtime._pulse.tick()
        yield here, there


async def test_what_is_committed_by_one_process_is_found_by_another_within_a_moment(pair):
    here, there = pair
    late = []

    async def work(ctx: Context) -> None:
        for number in range(10):
            await ctx.receive("go")
            await ctx.set_event(f"k{number}", number)
        await ctx.receive("go")

    here.workflow(work)
    await here.begin(work, id=W)
    for number in range(10):
        reading = asyncio.ensure_future(there.runtime.views.event(W, f"k{number}", after=0, timeout=20))
        await here.send(W, "go")
        await here.published(W, f"k{number}")
        at = time.monotonic()
        assert (await reading).events[f"k{number}"].value == str(number)
        late.append(time.monotonic() - at)
    assert sorted(late)[5] < 1, late


async def test_nobody_listens_and_nobody_calls(pair):
    here, there = pair
    assert await here.one(LISTENERS) == 0
    assert not here.runtime._notifier.wanted
    assert not there.runtime._notifier.wanted


async def test_work_that_one_process_leaves_is_found_by_another_before_a_beat(database_url):
    """One that runs nothing itself has no other way to say so."""
    async with (
        running(database_url, beat=NEVER, notifications=False, concurrency=0) as here,
        running(database_url, beat=NEVER, notifications=False) as there,
    ):

        async def work(ctx: Context) -> int:
            return 1

        for engine in (here, there):
            engine.workflow(work)
            await engine.runtime._pulse.tick()
        assert await here.run(work) == 1


async def test_who_is_alone_asks_nothing(database_url):
    async with running(database_url, beat=NEVER, notifications=False) as engine:
        await rests(engine)
        with engine.runtime.hub.watch(W) as watch:
            assert not await watch.wait(0.3)


def test_of_many_who_wait_some_read_at_a_time_each_in_its_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "AT_ONCE", 4)
    everybody = Hub(seats=1)
    with ExitStack() as waiting:
        watches = [waiting.enter_context(everybody.watch(f"w{n}")) for n in range(10)]
        for woken in (4, 8, 10):
            everybody.wake_some()
            assert [watch._woken for watch in watches] == [n < woken for n in range(10)]
