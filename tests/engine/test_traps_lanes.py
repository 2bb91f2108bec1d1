"""The journal's lanes: what is held or big keeps to itself, and no record of a workflow overtakes another."""

import asyncio
import uuid
from typing import Any

from app import Context
from app.engine.entries import Entry, Lane
from app.errors import InvalidRequest, MilepostError
from app.model import WorkflowId
from tests.support.engine import Engine
from tests.support.points import Gate, at
from tests.support.sessions import session
from tests.support.waiting import eventually

HOLD = "update workflows set tags = '{}' where id = any (%(ids)s)"
BIG = "x" * 100_000


def of(lane: str, gate: Gate):
    """Holds the flushes of one lane."""

    async def hold() -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == f"journal {lane}":
            await gate()

    return hold


def pair(engine: Engine, first: asyncio.Event, second: asyncio.Event):
    """A workflow with two steps at once, each of which ends when the test says so, and an event after each."""

    async def one() -> str:
        await first.wait()
        return "one"

    async def two() -> str:
        await second.wait()
        return "two"

    async def branch(ctx: Context, function) -> None:
        await ctx.set_event("done", await ctx.step(function))

    @engine.workflow
    async def both(ctx: Context) -> None:
        await asyncio.gather(branch(ctx, one), branch(ctx, two))

    return both


async def test_a_record_does_not_overtake_one_that_waits_for_a_held_row(engine: Engine, database_url):
    first, second = asyncio.Event(), asyncio.Event()
    both = pair(engine, first, second)
    id = await engine.begin(both)
    earlier, later, slow = Gate(), Gate(), Gate()
    fast = iter((earlier, later))

    async def lanes() -> None:
        await of("slow", slow)()
        await of("fast", next(fast, later))()

    async with session(database_url) as rival:
        await rival.rows(HOLD, {"ids": [id]})
        with at(journal__before_flush=lanes):
            first.set()
            await earlier.reached()
            second.set()  # its record is collected while the first one's is on its way
            await eventually(lambda: engine.runtime._journal.load > 0, message="no second record waits")
            earlier.open()
            await slow.reached()
            await rival.rollback()
            # Were the second record still in the fast lane, it would be written now.
            later.open()
            await engine.runtime._journal._lanes[Lane.FAST].idle.wait()
            slow.open()
            await engine.end(id)
    assert await engine.events(id) == [("done", "one"), ("done", "two")]
    assert [(step["seq"], step["done"]) for step in await engine.steps(id)] == [(1, 1), (2, 2)]


async def test_a_held_row_does_not_stall_the_others(engine: Engine, database_url):
    first, second = asyncio.Event(), asyncio.Event()
    both = pair(engine, first, second)
    held = await engine.begin(both)
    async with session(database_url) as rival:
        await rival.rows(HOLD, {"ids": [held]})
        first.set()
        await rival.blocks("milepost journal slow")
        second.set()
        await engine.run(both)
        assert await engine.events(held) == []
        await rival.commit()
    await engine.end(held)
    assert await engine.events(held) == [("done", "one"), ("done", "two")]


async def test_one_held_row_does_not_stall_what_was_held_for_a_moment(engine: Engine, database_url):
    go = asyncio.Event()
    both = pair(engine, go, go)
    held, briefly = await engine.begin(both), await engine.begin(both)
    async with session(database_url) as rival, session(database_url) as sender:
        await rival.rows(HOLD, {"ids": [held]})
        await sender.rows(HOLD, {"ids": [briefly]})
        go.set()
        await rival.blocks("milepost journal slow")
        await sender.commit()
        await engine.end(briefly, timeout=20)
        assert await engine.status(held) == "RUNNING"
        await rival.commit()
    await engine.end(held)


async def test_a_big_value_does_not_stall_the_small_ones(engine: Engine):
    @engine.workflow
    async def big(ctx: Context) -> int:
        await ctx.set_event("page", BIG)
        await ctx.set_event("size", len(BIG))
        return len(await ctx.step(lambda: BIG))

    @engine.workflow
    async def small(ctx: Context) -> None:
        await ctx.set_event("page", "x")

    gate = Gate()
    with at(journal__before_flush=of("big", gate)):
        id = await engine.begin(big)
        await gate.reached()
        await engine.run(small)
        assert await engine.events(id) == []
        gate.open()
        assert await engine.output(id) == len(BIG)
    assert await engine.events(id) == [("page", BIG), ("size", len(BIG))]


async def test_small_records_stay_behind_a_big_one_of_their_workflow(engine: Engine):
    first, second = asyncio.Event(), asyncio.Event()

    async def one() -> str:
        await first.wait()
        return BIG

    async def two() -> str:
        await second.wait()
        return "small"

    @engine.workflow
    async def both(ctx: Context) -> None:
        async def branch(function) -> None:
            await ctx.set_event("size", len(await ctx.step(function)))

        await asyncio.gather(branch(one), branch(two))

    gate = Gate()
    with at(journal__before_flush=of("big", gate)):
        id = await engine.begin(both)
        first.set()
        await gate.reached()
        second.set()
        await eventually(lambda: engine.runtime._journal.load > 0, message="no second record waits")
        gate.open()
        await engine.end(id)
    assert await engine.events(id) == [("size", len(BIG)), ("size", len("small"))]


class Written:
    """A workflow in memory that has something to write each time that it is asked."""

    def __init__(self, id: str) -> None:
        self.id, self.token, self.generation = WorkflowId(id), str(uuid.uuid4()), 1
        self.lane, self.serial = Lane.BIG, 0

    def take(self) -> Entry:
        self.serial += 1
        return Entry(self, self.serial)

    def committed(self, entry: Entry, *, moved: bool) -> None:
        """Nobody writes."""

    def fenced(self) -> None:
        """Nobody fences."""

    def refused(self, reason: MilepostError) -> None:
        """Nobody refuses."""


async def test_no_flush_holds_two_entries_of_one_workflow(engine: Engine):
    """One statement changes a row once: of an end and whatever else stood in the other entry, one would be lost."""
    lane = engine.runtime._journal._lanes[Lane.BIG]
    a: Any = Written("a")
    b: Any = Written("b")
    lane._waiting.extend([a.take(), b.take(), a, b, a])
    flushes = []
    while lane._waiting:
        items = lane._collect()
        flushes.append([(item.id, item.serial) for item in items if isinstance(item, Entry)])
    assert flushes == [[("a", 1), ("b", 1)], [("a", 2), ("b", 2)], [("a", 3)]]


async def test_a_flush_takes_no_more_than_its_share(engine: Engine):
    """A thousand events that come together go out in portions, and all arrive in their order."""
    go, flushed = asyncio.Event(), [0]

    async def wait() -> None:
        await go.wait()

    @engine.workflow
    async def chatty(ctx: Context) -> None:
        await ctx.step(wait)
        for number in range(100):
            await ctx.set_event("number", number)

    async def count() -> None:
        flushed[0] += 1

    ids = [await engine.begin(chatty) for _ in range(10)]
    gate = Gate()
    with at(journal__before_flush=gate, journal__after_flush=count):
        go.set()
        await gate.reached()
        gate.open()
        for id in ids:
            await engine.end(id)
    assert flushed[0] >= 2
    for id in ids:
        assert [row["value"] for row in await engine.log(id)] == list(range(100))


async def test_what_the_database_refuses_fails_its_own_workflow_and_no_other(engine: Engine):
    await engine.execute("alter table events add constraint no_poison check (key <> 'poison')")
    go = asyncio.Event()

    async def wait() -> None:
        await go.wait()

    @engine.workflow
    async def publish(ctx: Context, key: str) -> str:
        await ctx.step(wait)
        await ctx.set_event("before", 1)
        await ctx.set_event(key, 1)
        return key

    ids = [await engine.begin(publish, key) for key in ("a", "poison", "b", "c")]
    gate = Gate()
    with at(journal__before_flush=gate):
        go.set()
        await gate.reached()
        gate.open()
        error = await engine.error(ids[1])
    assert "no_poison" in error["message"]
    assert [await engine.output(id) for id in (ids[0], *ids[2:])] == ["a", "b", "c"]
    assert await engine.events(ids[1]) == []
    assert await engine.steps(ids[1]) == []


async def test_what_the_database_will_never_take_as_a_failure_ends_nothing_else(engine: Engine):
    """Even the reason is refused: the workflow is let go, and the journal goes on."""
    await engine.execute("alter table workflows add constraint no_failure check (status <> 'FAILED')")

    @engine.workflow
    async def fail(ctx: Context) -> None:
        raise RuntimeError

    @engine.workflow
    async def succeed(ctx: Context) -> int:
        return 1

    id = await engine.begin(fail)
    await eventually(lambda: not engine.holds(id), message="the refused one stays in memory")
    assert await engine.run(succeed) == 1


async def test_a_start_that_the_database_refuses_fails_alone(engine: Engine):
    await engine.execute("alter table workflows add constraint no_poison check (id <> 'poison')")

    @engine.workflow
    async def echo(ctx: Context, n: int) -> int:
        return n

    gate = Gate()
    with at(journal__before_flush=gate):
        starting = [engine.beside(engine.begin(echo, 1, id=id)) for id in ("a", "poison", "b")]
        await gate.reached()
        gate.open()
        outcomes = await asyncio.gather(*starting, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == ["a", "b"]
    assert isinstance(outcomes[1], InvalidRequest)
    assert [await engine.output(id) for id in ("a", "b")] == [1, 1]
