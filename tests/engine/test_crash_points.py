"""Every moment at which a program can be struck, one after the other: nothing may come out differently.

Two programs hold all that a workflow can do. For each moment of each of them the engine is killed, or an
answer of the database is lost, or the connection is cut before a statement; what is recorded in the end must
be what a run without faults records.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from app import Context
from app.engine import points
from tests.support import faults
from tests.support.engine import Engine, insist, running, text
from tests.support.faults import Fault, History, Moment

LEDGER = "create table ledger (workflow text, amount int)"
BOUND_OF_ONE = 2
"""Runs of a step body with one fault: its own, and one more (G5)."""


def work(engine: Engine) -> Any:
    """A workflow with every kind of step and event."""
    note = engine.ran.append

    async def reserve(item: int) -> int:
        note("reserve")
        return item + 1

    def weigh(item: int) -> int:
        note("weigh")
        return item * 2

    async def stream(ctx: Context, parts: int) -> int:
        note("stream")
        for part in range(parts):
            await ctx.set_event("part", part)
        return parts

    def stream_in_thread(ctx: Context, parts: int) -> int:
        note("stream_in_thread")
        for part in range(parts):
            ctx.set_event("threaded", part)
        return parts

    async def branch(number: int) -> int:
        note(f"branch {number}")
        return number

    async def debit(connection: Any, id: str, amount: int) -> int:
        note("debit")
        await connection.execute("insert into ledger values (%s, %s)", (id, amount))
        return amount

    async def ship() -> str:
        note("ship")
        return "shipped"

    @engine.workflow
    async def program(ctx: Context) -> list[Any]:
        reserved = await ctx.step(reserve, 1)
        await ctx.set_event("status", "reserved")
        weight = await ctx.step(weigh, 2)
        await ctx.set_event("status", "weighed")
        parts = await ctx.step(stream, ctx, 2)
        threaded = await ctx.step(stream_in_thread, ctx, 2)
        branches = await asyncio.gather(*(ctx.step(branch, number) for number in range(3)))
        await ctx.set_event("branches", branches)
        paid = await ctx.transaction(debit, ctx.workflow_id, 5)
        await ctx.set_event("status", "paid")
        shipped = await ctx.step(ship)
        return [reserved, weight, parts, threaded, branches, paid, shipped]

    async def client(id: str) -> None:
        await insist(lambda: engine.begin(program, id=id))
        await engine.output(id, faults.PATIENCE)

    return client


def conversation(engine: Engine) -> Any:
    """A workflow that waits for a message, a time, a child and somebody outside."""
    note = engine.ran.append

    async def deliver(url: str) -> None:
        note("deliver")
        await insist(lambda: engine.runtime.commands.complete_callback(url.rpartition("/")[2], text({"paid": True})))

    @engine.workflow
    async def partner(ctx: Context) -> Any:
        asked = await ctx.receive("question")
        await ctx.send(asked["from"], "answer", {"of": 42})
        return asked["n"]

    @engine.workflow
    async def child(ctx: Context, number: int) -> int:
        await ctx.set_event("number", number)
        await ctx.sleep(0.02)
        return number * 2

    @engine.workflow
    async def program(ctx: Context) -> list[Any]:
        await ctx.send(f"{ctx.workflow_id}-partner", "question", {"from": ctx.workflow_id, "n": 1})
        await ctx.set_event("status", "asked")
        answer = await ctx.receive("answer", timeout=60)
        await ctx.sleep(0.02)
        born = await ctx.start(child, 21)
        early = await born.get_event("number")
        number = await born.result()
        await ctx.set_event("status", "grown")
        url = await ctx.callback("payment")
        await ctx.set_event("url", url)
        await ctx.step(deliver, url)
        paid = await ctx.receive("payment", timeout=60)
        return [answer, early, number, paid]

    async def client(id: str) -> None:
        await insist(lambda: engine.begin(partner, id=f"{id}-partner"))
        await insist(lambda: engine.begin(program, id=id))
        await engine.output(id, faults.PATIENCE)
        await engine.output(f"{id}-partner", faults.PATIENCE)

    return client


PROGRAMS = {"work": work, "conversation": conversation}


async def check(engine: Engine, id: str, once: History, runs: Counter[str]) -> None:
    seen = await faults.history(engine, id)
    assert seen.streams.keys() == once.streams.keys()
    for seq, stream in seen.streams.items():
        assert faults.is_rerun_of(stream, once.streams[seq], reruns=1), f"step {seq} published {stream}"
    assert replace(seen, streams=once.streams) == once
    again = Counter(engine.ran)
    for step, count in runs.items():
        assert count <= again[step] <= count * BOUND_OF_ONE, f"{step} ran {again[step]} times"
    assert again.keys() == runs.keys()
    assert await engine.one("select count(*) from ledger where workflow = %s", id) == len(
        [step for step in once.steps if step[1] == "transaction"]
    )
    assert await engine.one("select count(*) from workflows where parent_id = %s", id) == len(
        [step for step in once.steps if step[1] == "child"]
    )
    assert not len(engine.runtime.hub), "somebody is still registered with the hub"


@pytest.mark.parametrize(
    ("program", "cache"),
    [("work", 0), ("conversation", 0), ("conversation", 100)],
    ids=["work", "forgetful conversation", "conversation"],
)
@pytest.mark.parametrize("kind", ["killed", "answer lost", "cut before"])
async def test_whatever_strikes_a_program_at_whatever_moment_it_ends_as_ever(
    database_url: str, kind: str, program: str, cache: int
):
    async with running(database_url, cache=cache, linger=0.01) as engine:
        await engine.execute(LEDGER)
        client = PROGRAMS[program](engine)
        moments = await faults.rehearse(client, "once")
        once, runs = await faults.history(engine, "once"), Counter(engine.ran)
        strike = faults.kills(engine) if kind == "killed" else faults.lost
        struck = 0
        for moment in moments_for(kind, moments):
            engine.ran.clear()
            id = f"{program}-{moment}"
            fault = Fault(strike, moment)
            import time

            t0 = time.time()
            try:
                await faults.perform(engine, client, id, fault)
                await check(engine, id, once, runs)
            except BaseException as error:
                error.add_note(f"{kind} at {moment}\n{await engine.state(id)}")
                raise
            struck += fault.struck
            print(f"TT {time.time() - t0:.3f} {kind} {program} {cache} {moment} {fault.struck}")
        # How often a program is parked, and so how many moments it has, depends on how quick the machine is just now.
        assert struck >= 0.5 * len(moments_for(kind, moments)), "too few faults have struck"


def moments_for(kind: str, moments: list[Moment]) -> list[Moment]:
    if kind == "killed":
        return moments
    ends = ("after_flush", "after_commit") if kind == "answer lost" else ("before_flush", "before_commit")
    return [moment for moment in moments if moment.point.endswith(ends)]


async def test_an_executor_that_was_only_asleep_writes_nothing_after_others_have_taken_over(database_url: str):
    """It stops at one moment after the other, is declared dead, and wakes when its work was done by another."""
    async with running(database_url) as heir:
        await heir.execute(LEDGER)
        client = work(heir)
        moments = await faults.rehearse(client, "once")
        once, runs = await faults.history(heir, "once"), Counter(heir.ran)
        for moment in moments:
            id, asleep, wake = str(moment), asyncio.Event(), asyncio.Event()

            async def sleep(asleep: asyncio.Event = asleep, wake: asyncio.Event = wake) -> None:
                asleep.set()
                await wake.wait()

            heir.ran.clear()
            # It does not look whether it lives while this goes on.
            async with running(database_url, beat=60.0) as sleeper:
                points.install(Fault(sleep, moment))
                asked = sleeper.beside(work(sleeper)(id))
                try:
                    await asyncio.wait({asked, noticed := sleeper.beside(asleep.wait())}, return_when="FIRST_COMPLETED")
                    noticed.cancel()
                    await heir.execute("update executors set alive = false where id = %s", sleeper.executor)
                    heir.runtime._recovery.poke()
                    await client(id)
                    before = await faults.history(heir, id)
                    wake.set()
                    await sleeper.lets_go(id)
                    assert await faults.history(heir, id) == before
                    heir.ran += sleeper.ran
                    await check(heir, id, once, runs)
                finally:
                    points.install(None)
                    wake.set()
                    asked.cancel()
                    await asyncio.wait({asked})
                    await sleeper.bury()
