"""Two executors of one workflow, each stopped at every moment: whatever the order, there is one owner.

The first runs a workflow and is stopped; it is declared dead, and its sessions that hold something are ended, as by
the server. The second takes over and is stopped. The first goes on, as a zombie, until it hears of its death; then the
second does its work.
"""

import asyncio
import itertools
from collections import Counter
from typing import Any

from app.engine import points
from app.errors import MilepostError
from tests.enumeration.programs import LEDGER, define
from tests.support import faults
from tests.support.engine import insist
from tests.support.explore import Halt, Meeting, Replica, explore, replicas
from tests.support.waiting import eventually

STOPS = (
    "journal.",
    "transaction.before_record",
    "transaction.before_commit",
    "transaction.after_commit",
    "step.before_call",
    "recovery.before_take_over",
    "recovery.after_take_over",
    "executor.after_read",
)


async def rehearsed(replica: Replica, program: str) -> tuple[faults.History, Counter[str]]:
    """The history of a program without faults, and what it ran."""
    await replica.begin(program, id="once")
    await replica.output("once")
    return await faults.history(replica, "once"), Counter(replica.ran)


async def runs(replica: Replica, id: str) -> None:
    """Start an order, and see it leave memory."""
    try:
        await replica.begin("order", id=id)
    except MilepostError:
        return  # it was declared dead meanwhile
    await leaves(replica, id)


async def leaves(replica: Replica, id: str) -> None:
    await eventually(lambda: not replica.holds(id), 15, f"{id} stays in memory")


async def test_whoever_is_stopped_wherever_a_workflow_has_one_owner_and_one_history(database_url: str):
    async with replicas(database_url, "a", "b") as (a, b):
        await a.execute(LEDGER)
        define(a)
        define(b)
        once, ran = await rehearsed(a, "order")

        async def goes_on(id: str) -> None:
            b.runtime._recovery.poke()
            await insist(lambda: b.begin("order", id=id))
            await b.end(id)

        async def is_taken_for_dead() -> None:
            await a.end_idle_transactions()
            await a.declare_dead()

        async def check(id: str) -> None:
            assert await faults.history(b, id) == once
            assert await b.one("select count(*) from ledger where workflow = %s", id) == 1
            both = Counter(a.ran) + Counter(b.ran)
            # A transaction that was rolled back counts as well: what matters is the ledger.
            assert all(1 <= both[step] <= 2 for step in ran), both

        meeting = Meeting(
            first=lambda id: runs(a, id),
            second=goes_on,
            check=check,
            stops=STOPS,
            stopped=is_taken_for_dead,
            went_on=a.is_reborn,
        )
        tally = await explore(a, b, meeting)
    print(tally)
    assert tally.schedules > 100
    assert len(tally.pairs) > 40
    assert tally.writes > 5 * tally.schedules


async def test_an_executor_that_dies_in_the_middle_of_a_flush_writes_all_of_it_or_nothing(database_url: str):
    """It has read that the workflow is its own, and has not written yet. Whoever takes over meanwhile waits or sees
    what was written."""
    async with replicas(database_url, "a", "b") as (a, b):
        await a.execute(LEDGER)
        define(a)
        define(b)
        once, _ = await rehearsed(a, "order")
        struck = 0
        for n in itertools.count(1):
            id = f"w{n}"
            await a.audit.forget()
            points.install(halt := Halt(a, n, ("journal.before_flush", "transaction.before_record")))
            started = a.beside(runs(a, id))
            try:
                stands = await stands_still(started, halt)
                if stands:
                    struck += 1
                    await a.declare_dead()
                    await b.runtime._recovery.tick()
                    if b.holds(id):
                        await b.end(id)
            finally:
                await halt.release()
            await eventually(started.done, message="the zombie does not leave")
            if not halt.armed:
                break
            if stands:
                await a.is_reborn()
                b.runtime._recovery.poke()
            await b.end(id)
            assert await faults.history(b, id) == once, halt
            await a.audit.is_content()
        assert struck >= 3


async def test_of_two_who_start_one_id_at_once_one_is_told_that_it_did(database_url: str):
    """Each has seen that there is none, and writes."""
    async with replicas(database_url, "a", "b") as (a, b):
        await a.execute(LEDGER)
        define(a)
        define(b)
        points.install(halt := Halt(a, 1, ("journal.before_flush",)))
        first = a.beside(a.creates("order", "w"))
        try:
            assert await stands_still(first, halt)
            assert await b.creates("order", "w")
        finally:
            await halt.release()
        assert not await first
        await b.output("w")
        assert not a.ran
        await a.audit.is_content()


async def stands_still(started: "asyncio.Task[Any]", halt: Halt) -> bool:
    """Whether it is halted; False: it went through to its end."""
    while not started.done():
        if halt.armed and await halt.strikes():
            return True
        await asyncio.sleep(0.002)
    return False
