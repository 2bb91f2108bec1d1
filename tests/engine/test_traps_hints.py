"""What one process commits is known to readers of another, whatever becomes of the hints.

Here nobody beats unless it is told to: what wakes a reader is the hint, or that one was missed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import pytest

from app import Context
from app.engine import hub
from app.engine.views import Reading
from app.model import ExecutorId, WorkflowId
from tests.support import rows
from tests.support.beats import beat, rests
from tests.support.engine import Engine, running
from tests.support.points import Gate, at
from tests.support.readers import all_wait
from tests.support.sessions import observer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.hints

W = WorkflowId("w")
NEVER = 3600.0
SET = (
    "insert into events (workflow_id, position, key, value, done, set_at) values ('w', 1, 'url', '\"there\"', 0, now())"
)
CUT = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'milepost listener'"


@asynccontextmanager
async def reader(engine: Engine) -> AsyncIterator["asyncio.Future[Reading]"]:
    """Somebody who waits for `url` of W. There are many others, so that it is not its turn to look again."""
    with ExitStack() as others:
        for n in range(100):
            others.enter_context(engine.runtime.hub.watch(f"other {n}"))
        before = len(engine.runtime.hub)
        read = engine.runtime.views.event(W, "url", after=0, timeout=NEVER)
        reading = asyncio.ensure_future(read)
        # It has looked, and found nothing, when it waits for what wakes it.
        await eventually(lambda: len(engine.runtime.hub) > before and all_wait(engine, W), message="nobody waits")
        try:
            yield reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def finds(reading: "asyncio.Future[Reading]") -> None:
    """It is answered, and long before its time is up: at that moment it would look once more in any case."""
    async with asyncio.timeout(5 * PATIENCE):
        event = (await reading).events["url"]
    assert event
    assert event.value == '"there"'


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """It has done its first beats; W runs elsewhere."""
    async with observer(database_url) as other:
        await rows.add_executor(other, "elsewhere")
        await other.rows("update executors set heartbeat_at = now() + interval '1 day', hint = 7")
        await rows.add_workflow(other, W, executor_id="elsewhere")
    async with running(database_url, beat=NEVER) as engine:
        await rests(engine)
        await eventually(lambda: engine.runtime._listener._heard, message="it does not know the other one")
        async with observer(database_url) as other:
            # It listens by now.
            await heard(engine, other, 7)
        yield engine


async def heard(engine: Engine, other: Any, number: int) -> None:
    """Have the other executor send a hint of something, and wait until it has arrived."""
    listener, hint = engine.runtime._listener, {"text": f"elsewhere {number} something"}

    async def arrived() -> bool:
        await other.rows("select pg_notify('milepost', %(text)s)", hint)
        return listener._heard.get(ExecutorId("elsewhere")) == number

    await eventually(arrived, message="a hint does not arrive")


async def test_what_is_committed_by_one_process_wakes_readers_of_another(database_url):
    async with AsyncExitStack() as both:
        here, there = [await both.enter_async_context(running(database_url, beat=NEVER)) for _ in range(2)]
        go = asyncio.Event()

        async def wait() -> None:
            await go.wait()

        @here.workflow
        async def publish(ctx: Context) -> None:
            await ctx.step(wait)
            await ctx.set_event("url", "there")
            await ctx.step(wait)

        await here.begin(publish, id=W)
        for engine in (here, there):
            await beat(engine)
        async with reader(there) as reading:
            go.set()
            await finds(reading)


async def test_a_gap_in_the_numbers_of_the_hints_has_everybody_read_again(engine: Engine, database_url):
    """The hint that told of it was lost; the next one tells that there was one."""
    async with observer(database_url) as other, reader(engine) as reading:
        await heard(engine, other, 8)
        await other.rows(SET)
        await heard(engine, other, 10)
        await finds(reading)


async def test_hints_of_others_wake_nobody_who_does_not_wait_for_them(engine: Engine, database_url):
    """So that a thousand readers do not read again at each commit elsewhere."""
    async with observer(database_url) as other, reader(engine) as reading:
        for number in range(8, 20):
            await heard(engine, other, number)
        assert all_wait(engine, W)
        assert not reading.done()


async def test_a_hint_that_was_announced_and_not_heard_has_everybody_read_again(engine: Engine, database_url):
    """It was the last one, so there is no gap."""
    async with observer(database_url) as other, reader(engine) as reading:
        await other.rows(SET)
        await other.rows("update executors set hint = 8 where id = 'elsewhere'")
        await beat(engine)
        await beat(engine)
        await finds(reading)


async def test_what_was_sent_while_nobody_listened_is_found_by_reading(engine: Engine, database_url):
    again = Gate()
    async with observer(database_url) as other, reader(engine) as reading:
        with at(listener__before_listen=again):
            await other.rows(CUT)
            await again.reached()
            await other.rows(SET)
            again.open()
            await finds(reading)


async def test_without_any_hint_everybody_reads_again_in_a_while(engine: Engine, database_url):
    """A belt: whatever the hints say, each beat it is somebody's turn."""
    async with observer(database_url) as other, reader(engine) as reading:
        await other.rows(SET)
        for _ in range(hub.SLICES + 1):
            if reading.done():
                break
            await beat(engine)
        await finds(reading)
