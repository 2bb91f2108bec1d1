"""Every moment at which a program can be struck, one after the other: nothing may come out differently.

For each moment of each program the engine is killed, or the answer to a statement is lost, or the connection is cut
before a statement. What is recorded in the end must be what a run without faults records, and the witness in the
database must have seen nothing that may not be.

By default a program is struck wherever something is written, and one of them wherever anything is asked for the first
time. With `ENUMERATE=all` (and `-o faulthandler_timeout=0`, for it takes its time) all of them are struck at every
point, with and without what is parked in memory.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from app import Context
from app.errors import DatabaseUnavailable
from tests.enumeration.programs import LEDGER, define
from tests.support import faults
from tests.support.engine import Engine, insist, text
from tests.support.explore import Replica, replicas
from tests.support.faults import Fault, History, Moment
from tests.support.waiting import eventually

ALL = os.environ.get("ENUMERATE") == "all"
BOUND_OF_ONE = 2
"""Runs of a step body with one fault: its own, and one more (G5)."""
WRITES = {
    "journal.flush",
    "transaction.commit",
    "mail.commit",
    "cancel.commit",
    "resume.commit",
    "step.call",
    "executor.claim",
    "executor.queue",
    "lookup.watch",
    "recovery.take_over",
    "recovery.adopt",
}
"""What changes something. A process that is killed before one is killed after the one before."""
BY_ITSELF = ("pulse.", "notifier.", "listener.", "deadlines.", "recovery.", "executor.next_due", "executor.sweep")
"""What goes on besides, more or less often: its first times are struck."""


class Cut(psycopg.OperationalError, DatabaseUnavailable):
    """A connection was lost, in the words of either layer that may be met by it."""


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
        await insist(lambda: engine.output(id, faults.PATIENCE))

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
        await insist(lambda: engine.output(id, faults.PATIENCE))
        await insist(lambda: engine.output(f"{id}-partner", faults.PATIENCE))

    return client


async def begins(engine: Replica, program: str, id: str, asked: set[str]) -> None:
    """Start a workflow. Who asks for the first time, and is answered, is told that it was this start that did it: if
    the database's answer was lost, that is found out."""
    first = id not in asked
    asked.add(id)
    try:
        created = await engine.creates(program, id)
    except DatabaseUnavailable:
        await insist(lambda: engine.begin(program, id=id))
    else:
        assert created or not first, "by what was answered the workflow is another's"


def journey(engine: Replica) -> Any:
    """A workflow that does one thing after the other, and those outside wait until it stands still."""
    asked: set[str] = set()

    async def client(id: str) -> None:
        await begins(engine, "journey", id, asked)
        await stands(engine, id, f"{id}-child")
        await insist(lambda: engine.send(id, "answer", 1, key="once"))
        await stands(engine, f"{id}-child")
        await insist(lambda: engine.send(f"{id}-child", "more", 1, key="once"))
        await insist(lambda: engine.output(id, faults.PATIENCE))

    return client


def errand(engine: Replica) -> Any:
    """A workflow that is cancelled with its child, and resumed without it."""
    done: set[tuple[str, str]] = set()
    asked: set[str] = set()

    async def client(id: str) -> None:
        async def once(what: str, do: Callable[[], Awaitable[Any]]) -> None:
            # After a crash this client is asked again, and goes on where it was.
            if (id, what) not in done:
                await insist(do)
                done.add((id, what))

        await once("begin", lambda: begins(engine, "errand", id, asked))
        await once("wait", lambda: stands(engine, f"{id}-child"))
        await once("cancel", lambda: engine.cancel(id))
        await once("resume", lambda: engine.resume(id))
        await once("send", lambda: engine.send(id, "word", "said", key="once"))
        await insist(lambda: engine.output(id, faults.PATIENCE))
        assert await engine.status(f"{id}-child") == "CANCELLED"

    return client


async def stands(engine: Engine, id: str, *later: str) -> None:
    """Wait until a workflow is parked, or has ended, or something is there that comes later."""

    async def still() -> bool:
        found = await engine.rows(
            "select from workflows where (id = %s and status not in ('QUEUED', 'RUNNING')) or id = any (%s)",
            id,
            list(later),
        )
        return bool(found)

    await eventually(still, faults.PATIENCE, f"{id} does not come to stand")


PROGRAMS = {"work": work, "conversation": conversation, "journey": journey, "errand": errand}

KILLED, LOST, CUT = "killed", "answer lost", "cut before"


def struck_at(kind: str, program: str, moments: list[Moment]) -> list[Moment]:
    """The moments of a program at which such a fault can strike."""
    return [moment for moment in moments if _can(kind, moment) and (ALL or _tells(kind, program, moment))]


def _can(kind: str, moment: Moment) -> bool:
    part, _, what = moment.point.partition(".")
    if moment.point.startswith(BY_ITSELF) and moment.nth > 2:
        return False
    asked = part not in ("step", "mailbox") and moment.point != "executor.before_wake"
    return kind == KILLED or (asked and what.startswith("after_" if kind == LOST else "before_"))


def _tells(kind: str, program: str, moment: Moment) -> bool:
    """Whether it differs from the one before: something was written meanwhile; or a read is disturbed for once."""
    part, _, what = moment.point.partition(".")
    when, _, what = what.partition("_")
    if f"{part}.{what}" in WRITES:
        return kind != KILLED or when == "after" or what == "commit"
    return kind != KILLED and program == "journey" and moment.nth == 1


async def lost() -> None:
    raise Cut("the connection was cut by a test")


async def check(engine: Replica, id: str, once: History, runs: Counter[str]) -> None:
    seen = await faults.history(engine, id)
    assert seen.streams.keys() == once.streams.keys()
    for seq, stream in seen.streams.items():
        assert faults.is_rerun_of(stream, once.streams[seq], reruns=1), f"step {seq} published {stream}"
    assert replace(seen, streams=once.streams) == once
    again = Counter(engine.ran)
    for step, count in runs.items():
        assert count <= again[step] <= count * BOUND_OF_ONE, f"{step} ran {again[step]} times"
    assert again.keys() == runs.keys()
    kinds = Counter(step[1] for step in once.steps)
    assert await engine.one("select count(*) from ledger where workflow = %s", id) == kinds["transaction"]
    assert await engine.one("select count(*) from workflows where parent_id = %s", id) == kinds["child"]
    await eventually(lambda: not len(engine.runtime.hub), message="somebody is still registered with the hub")
    await engine.audit.is_content()


CASES = [(program, 0) for program in PROGRAMS] + ([(program, 100) for program in PROGRAMS] if ALL else [])


@pytest.mark.parametrize(("program", "cache"), CASES, ids=str)
@pytest.mark.parametrize("kind", [KILLED, LOST, CUT])
async def test_whatever_strikes_a_program_at_whatever_moment_it_ends_as_ever(
    database_url: str, kind: str, program: str, cache: int
):
    async with replicas(database_url, "a", cache=cache, linger=0.01, beat=0.1) as (engine,):
        await engine.execute(LEDGER)
        define(engine)
        client = PROGRAMS[program](engine)
        moments = struck_at(kind, program, await faults.rehearse(client, "once"))
        once, runs = await faults.history(engine, "once"), Counter(engine.ran)
        strike = faults.kills(engine) if kind == KILLED else lost
        struck, began = 0, time.perf_counter()
        for n, moment in enumerate(moments):
            engine.ran.clear()
            await engine.audit.forget()
            id, fault = f"w{n}", Fault(strike, moment)
            try:
                await faults.perform(engine, client, id, fault)
                await check(engine, id, once, runs)
            except BaseException as error:
                error.add_note(f"{kind} at {moment}\n{await engine.state(id)}")
                raise
            struck += fault.struck
        each = 1000 * (time.perf_counter() - began) / len(moments)
        places = len({moment.point for moment in moments})
        print(f"{kind}, {program}: {struck} of {len(moments)} schedules, {places} points, {each:.0f} ms each")
        # How often a program is parked, and so how many moments it has, depends on how quick the machine is just now.
        assert struck >= 0.5 * len(moments), "too few faults have struck"
        assert len(moments) >= AT_LEAST[kind]


AT_LEAST = {KILLED: 15, LOST: 8, CUT: 8}
