"""What is committed together, what comes before what, and how little is written for it."""

import asyncio
from typing import Any

from app import Context
from app.engine import points
from tests.support import faults
from tests.support.engine import Engine, insist, running
from tests.support.faults import Fault
from tests.support.waiting import eventually


async def test_a_step_and_the_events_set_after_it_are_committed_together(engine: Engine):
    """No crash leaves the step recorded without its events, or the events without their step."""

    async def pay() -> str:
        return "https://pay.example"

    @engine.workflow
    async def checkout(ctx: Context) -> None:
        url = await ctx.step(pay)
        await ctx.set_event("payment_url", url)
        await ctx.set_event("status", "awaiting payment")
        await ctx.sleep(0.01)

    async def client(id: str) -> None:
        await insist(lambda: engine.begin(checkout, id=id))
        await engine.output(id)

    for moment in await faults.rehearse(client, "once"):
        fault = Fault(faults.kills(engine), moment)
        points.install(fault)
        asked = engine.beside(client(str(moment)))
        killed = engine.beside(engine.killed.wait())
        await asyncio.wait({asked, killed}, return_when=asyncio.FIRST_COMPLETED)
        points.install(None)
        for task in (asked, killed):
            task.cancel()
        await asyncio.wait({asked, killed})
        await engine.bury()
        paid = [step for step in await engine.steps(str(moment)) if step["name"] == "pay"]
        assert len(await engine.events(str(moment))) == (2 if paid else 0), f"killed at {moment}"
        await engine.start()


async def test_an_event_is_visible_before_the_next_step_begins(engine: Engine):
    seen: list[list[tuple[str, Any]]] = []

    async def first() -> None:
        pass

    async def look(id: str) -> None:
        seen.append(await engine.events(id))

    @engine.workflow
    async def publishes(ctx: Context) -> None:
        await ctx.set_event("n", 0)
        await ctx.step(look, ctx.workflow_id)
        await ctx.set_event("n", 1)
        await asyncio.gather(ctx.step(look, ctx.workflow_id), ctx.step(first))
        ctx.set_event("n", 2)
        await ctx.step(look, ctx.workflow_id)

    await engine.run(publishes)
    sets = [("n", number) for number in range(3)]
    assert seen == [sets[:1], sets[:2], sets]


async def test_no_step_begins_while_an_event_of_its_workflow_is_uncommitted(engine: Engine):
    """Also when the database takes its time."""
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(point: str) -> None:
        if point == "journal.before_flush" and "started" in engine.ran:
            held.set()
            await go_on.wait()

    async def step() -> None:
        engine.ran.append("step")

    async def start() -> None:
        engine.ran.append("started")

    @engine.workflow
    async def publishes(ctx: Context) -> None:
        await ctx.step(start)
        await ctx.set_event("status", "soon")
        await ctx.step(step)

    points.install(hold)
    id = await engine.begin(publishes)
    await eventually(held.is_set)
    assert engine.ran == ["started"]
    points.install(None)
    go_on.set()
    await engine.output(id)
    assert engine.ran == ["started", "step"]


async def test_a_checkout_of_two_steps_and_one_event_is_three_flushes_and_no_other_write(database_url: str):
    async def reserve() -> int:
        return 1

    async def pay() -> str:
        return "https://pay.example"

    # No heartbeat in between: it is the only thing that an executor writes besides.
    async with running(database_url, beat=60.0) as engine:

        @engine.workflow
        async def checkout(ctx: Context) -> str:
            await ctx.step(reserve)
            url = await ctx.step(pay)
            await ctx.set_event("payment_url", url)
            return url

        await engine.run(checkout)
        writes = []
        for _ in range(5):
            counted = Fault(faults.nothing)
            points.install(counted)
            before = await engine.one(TRANSACTIONS)
            await engine.run(checkout)
            writes.append(await engine.one(TRANSACTIONS) - before)
            points.install(None)
            assert counted.passed["journal.before_flush"] == 3
        assert min(writes) == 3, f"{writes} transactions have written something"


TRANSACTIONS = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
"""The server counts transactions that write, and only those; its own housekeeping is now and then among them."""


async def test_results_are_known_to_the_code_before_they_are_committed_and_to_nobody_else(engine: Engine):
    held, go_on = asyncio.Event(), asyncio.Event()
    known: list[str] = []

    async def hold(point: str) -> None:
        if point == "journal.before_flush" and known:
            held.set()
            await go_on.wait()

    async def work() -> str:
        return "done"

    @engine.workflow
    async def program(ctx: Context) -> str:
        known.append(await ctx.step(work))
        await ctx.set_event("status", "done")
        return known[0]

    points.install(hold)
    id = await engine.begin(program)
    await eventually(held.is_set)
    assert known == ["done"]
    assert (await engine.status(id), await engine.steps(id), await engine.events(id)) == ("RUNNING", [], [])
    points.install(None)
    go_on.set()
    assert await engine.output(id) == "done"
