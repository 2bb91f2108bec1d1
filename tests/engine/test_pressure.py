"""Much at once, a slow database, and one that goes away in the middle: bounded, fair, and nothing lost."""

import asyncio
import threading
from typing import Any

from app import Context
from app.engine import points
from app.engine.scribe import MAX_PENDING_BYTES
from tests.support.databases import Databases
from tests.support.engine import Engine
from tests.support.faults import Fault, nothing
from tests.support.waiting import eventually

CUT = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name like 'milepost%%'"
)


async def test_a_workflow_that_sets_very_many_events_lets_the_others_run(engine: Engine):
    gaps: list[float] = []

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(0)
            gaps.append(loop.time() - last)
            last = loop.time()

    @engine.workflow
    async def floods(ctx: Context) -> None:
        for number in range(20_000):
            await ctx.set_event("n", number)

    ticking = engine.beside(tick())
    id = await engine.begin(floods)
    await engine.output(id, timeout=30)
    ticking.cancel()
    assert await engine.one("select count(*) from events where workflow_id = %s", id) == 20_000
    assert await engine.one("select max(position) from events where workflow_id = %s", id) == 20_000
    assert len(gaps) > 100
    assert max(gaps) < 1.0


async def test_large_events_do_not_pile_up_before_a_slow_database(engine: Engine):
    entries: list[int] = []
    held, go_on = asyncio.Event(), asyncio.Event()

    @engine.workflow
    async def floods(ctx: Context) -> None:
        for number in range(20):
            await ctx.set_event("large", "x" * 1_000_000)
            entries.append(number)

    async def hold(point: str) -> None:
        if point == "journal.before_flush" and entries:
            held.set()
            await go_on.wait()

    points.install(hold)
    id = await engine.begin(floods)
    await eventually(held.is_set)
    # Once more as much collects behind the flush that is on its way.
    most = 2 * (MAX_PENDING_BYTES // 1_000_000 + 1)
    assert len(entries) <= most
    go_on.set()
    await engine.output(id, timeout=30)
    assert await engine.one("select count(*) from events where workflow_id = %s", id) == 20


async def test_large_values_and_small_ones_of_one_commit_each_come_to_their_place(engine: Engine):
    def large(name: str) -> list[str]:
        return [f'"{name}"\\ \N{GRINNING FACE}'] * 20_000

    @engine.workflow
    async def mixes(ctx: Context, input: list[str]) -> int:
        made = await ctx.step(large, "step")
        for key in ("one", "two"):
            await ctx.set_event(f"large {key}", large(key))
            await ctx.set_event(f"small {key}", key)
        await ctx.step(len, input)
        return len(made)

    ids = [await engine.begin(mixes, large(name)) for name in ("a", "b")]
    for id, name in zip(ids, ("a", "b"), strict=True):
        assert await engine.output(id, timeout=30) == 20_000
        assert await engine.one("select input from workflows where id = %s", id) == large(name)
        steps = await engine.rows("select output from steps where workflow_id = %s order by seq", id)
        assert [step["output"] for step in steps] == [large("step"), 20_000]
        events = await engine.rows("select key, value from events where workflow_id = %s order by position", id)
        assert {event["key"]: event["value"] for event in events} == {
            "large one": large("one"),
            "small one": "one",
            "large two": large("two"),
            "small two": "two",
        }


async def test_a_thread_that_publishes_is_no_faster_than_the_database(engine: Engine):
    published = 0
    held, go_on = asyncio.Event(), asyncio.Event()

    def publish(ctx: Context) -> int:
        nonlocal published
        for number in range(1_000):
            ctx.set_event("n", number)
            published += 1
        return published

    async def hold(point: str) -> None:
        if point == "journal.before_flush" and published >= 100 and not held.is_set():
            held.set()
            await go_on.wait()

    @engine.workflow
    async def program(ctx: Context) -> int:
        return await ctx.step(publish, ctx)

    points.install(hold)
    id = await engine.begin(program)
    await eventually(held.is_set)
    seen = published
    quick = threading.Event()
    await asyncio.get_running_loop().run_in_executor(None, quick.wait, 0.05)
    assert published <= seen + 1
    go_on.set()
    assert await engine.output(id, timeout=30) == 1_000
    assert [row["value"] for row in await engine.log(id)] == list(range(1_000))


async def test_what_is_done_together_is_committed_together(engine: Engine):
    """Two hundred workflows of two steps each need far fewer flushes than they have barriers."""

    async def work() -> None: ...

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.step(work)
        await ctx.step(work)

    counted = Fault(nothing)
    points.install(counted)
    ids = await asyncio.gather(*(engine.begin(program) for _ in range(200)))
    for id in ids:
        await engine.output(id)
    assert counted.passed["journal.after_flush"] < 60


async def test_a_database_that_drops_all_connections_again_and_again_loses_nothing(engine: Engine):
    await engine.execute("create table ledger (workflow text, amount int)")

    async def act(ctx: Context, number: int) -> int:
        await ctx.set_event("progress", number)
        return number

    async def enter(connection: Any, id: str) -> None:
        await connection.execute("insert into ledger values (%s, 1)", (id,))

    @engine.workflow
    async def child(ctx: Context) -> str:
        return str(await ctx.receive("grow"))

    @engine.workflow
    async def program(ctx: Context) -> Any:
        total = sum([await ctx.step(act, ctx, number) for number in range(5)])
        await ctx.transaction(enter, ctx.workflow_id)
        born = await ctx.start(child)
        await ctx.sleep(0.05)
        await ctx.send(born.id, "grow", "grown")
        await ctx.set_event("total", total)
        return await born.result()

    ids = [await engine.begin(program) for _ in range(20)]
    for _ in range(5):
        before = await engine.one("select count(*) from steps")

        async def further(before: int = before) -> bool:
            return bool(
                await engine.one("select count(*) from steps") > before
                or not await engine.rows("select from workflows where completed_at is null")
            )

        await engine.rows(CUT)
        await eventually(further)
    for id in ids:
        assert await engine.output(id, timeout=20) == "grown"
        log = await engine.log(id)
        assert [row["position"] for row in log] == list(range(1, len(log) + 1))
        assert [row["value"] for row in log if row["step"] is None] == [10]
        assert await engine.one("select count(*) from ledger where workflow = %s", id) == 1
    assert not await engine.rows("select from waits")
    assert await engine.one("select max(attempts) from workflows") == 1


async def test_nothing_fails_while_the_database_is_away(engine: Engine, databases: Databases):
    """Workflows stand still at their barriers, and go on."""
    name = await engine.one("select current_database()")

    async def act(number: int) -> int:
        engine.ran.append(f"{number}")
        return number

    @engine.workflow
    async def program(ctx: Context) -> list[int]:
        await ctx.receive("go")
        return [await ctx.step(act, number) for number in range(3)]

    id = await engine.begin(program)
    await eventually(lambda: engine.holds(id))
    await engine.send(id, "go")
    databases.run("alter database {} with allow_connections false", name)
    await engine.rows(CUT)
    engine.runtime._executor.poke()
    await eventually(lambda: engine.runtime._pulse._away)
    databases.run("alter database {} with allow_connections true", name)
    assert await engine.output(id, timeout=20) == [0, 1, 2]
    assert engine.ran == ["0", "1", "2"]
