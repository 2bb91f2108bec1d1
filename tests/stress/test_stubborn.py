"""Steps that do not give way: to a cancel, and to the end of their time."""

import asyncio
import threading

from app import Context, step
from tests.support.engine import Engine


async def test_a_thread_that_goes_on_after_a_cancel_is_not_listened_to(engine: Engine):
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    def stubborn(ctx: Context) -> str:
        entered.set()
        leave.wait(20)
        try:
            ctx.set_event("late", 1)
        finally:
            left.set()
        return "late"

    @engine.workflow
    async def program(ctx: Context) -> str:
        return await ctx.step(stubborn, ctx)

    @engine.workflow
    async def neighbour(ctx: Context) -> str:
        return await ctx.step(polite)

    @step
    def polite() -> str:
        return "done"

    id = await engine.begin(program)
    await asyncio.to_thread(entered.wait, 20)
    async with asyncio.timeout(5):
        assert (await engine.cancel(id)).status == "CANCELLED"
    assert await engine.run(neighbour) == "done"
    leave.set()
    await asyncio.to_thread(left.wait, 20)
    assert await engine.run(neighbour) == "done"
    assert await engine.status(id) == "CANCELLED"
    assert await engine.steps(id) == []
    assert await engine.events(id) == []
