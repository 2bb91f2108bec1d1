"""Much from few: what one workflow does at once is bounded in memory, and lets the others get on."""

import asyncio
from typing import Any

import pytest

from app import Context
from app.engine import journal, scribe
from app.engine.journal import MAX_BYTES
from app.engine.scribe import MAX_PENDING_BYTES, MAX_RECORDS
from tests.support.engine import Engine
from tests.support.points import Gate, at
from tests.support.waiting import eventually


class Flushes:
    """What goes out in one statement."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.rows: list[int] = []
        made = journal._batch

        def batch(items: Any) -> Any:
            found = made(items)
            self.sizes.append(sum(map(len, (found.entries, found.starts or "", found.steps, found.events))))
            self.rows.append(len(items) + sum(len(item[1].starts) for item in items if isinstance(item, tuple)))
            return found

        monkeypatch.setattr(journal, "_batch", batch)


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> Flushes:
    return Flushes(monkeypatch)


async def test_children_that_are_started_at_once_go_out_in_portions(engine: Engine, flushes: Flushes):
    @engine.workflow
    async def child(ctx: Context, food: str) -> None: ...

    @engine.workflow
    async def parent(ctx: Context, size: int) -> int:
        return len(await asyncio.gather(*(ctx.start(child, "x" * size) for _ in range(2 * MAX_RECORDS // size + 20))))

    assert await engine.run(parent, 1) == 2 * MAX_RECORDS + 20
    assert max(flushes.rows) <= MAX_RECORDS + 600
    assert await engine.run(parent, 500_000) == 20
    assert max(flushes.sizes) < MAX_PENDING_BYTES + 2 * MAX_BYTES


async def test_what_many_publish_before_a_slow_database_is_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """Each of them stays within what it may have alone; but there are many of them."""
    monkeypatch.setattr(scribe, "MAX_ALL_BYTES", 2_000_000)
    value, published = "x" * 20_000, 0

    @engine.workflow
    async def flood(ctx: Context) -> None:
        nonlocal published
        for _ in range(50):
            await ctx.set_event("large", value)
            published += 1

    @engine.workflow
    async def modest(ctx: Context) -> str:
        await ctx.set_event("small", 1)
        return "done"

    gate = Gate()
    with at(journal__before_flush=gate):
        starting = [engine.beside(engine.begin(flood)) for _ in range(20)]
        await gate.reached()
        gate.open()
        ids = await asyncio.gather(*starting)
        held = Gate()
        with at(journal__before_flush=held):
            await held.reached()
            # They stand still, with far less than the 20 MB that they have to say.
            before = -1
            while published != before:
                before = published
                for _ in range(100):
                    await asyncio.sleep(0)
            assert engine.runtime._executor.backlog.bytes < 2_000_000 + 20 * (scribe.SHARE + 2 * len(value))
            held.open()
    for id in ids:
        await engine.output(id, timeout=60)
    assert await engine.run(modest) == "done"
    assert await engine.one("select count(*) from events where key = 'large'") == 1_000
    await eventually(lambda: engine.runtime._executor.backlog.bytes == 0, message="something counts as uncommitted")


async def test_two_thousand_messages_of_one_workflow_arrive_once_each(engine: Engine):
    """And a message of somebody else does not stand behind all of them."""
    count = 2_000

    @engine.workflow
    async def reader(ctx: Context) -> str:
        return str(await ctx.receive("stop"))

    @engine.workflow
    async def writer(ctx: Context) -> None:
        await asyncio.gather(*(ctx.send("reader", "word", number) for number in range(count)))

    await engine.begin(reader, id="reader")
    id = await engine.begin(writer)
    await engine.output(id, timeout=60)
    rows = await engine.rows("select payload from messages where workflow_id = 'reader' order by position")
    assert sorted(row["payload"] for row in rows) == list(range(count))
    await engine.send("reader", "stop", "enough")
    assert await engine.output("reader") == "enough"


async def test_two_thousand_steps_at_once_are_each_run_once(engine: Engine):
    async def work(number: int) -> int:
        engine.ran.append(str(number))
        return number

    @engine.workflow
    async def program(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.step(work, number) for number in range(2_000))))

    assert await engine.run(program) == sum(range(2_000))
    assert sorted(map(int, engine.ran)) == list(range(2_000))
