"""What becomes of flushes and claims whose answer never came, and of ids that are asked for twice."""

import asyncio

import psycopg
import pytest

from app import Context, WorkflowIdConflict
from app.engine import journal
from app.errors import DatabaseUnavailable
from tests.support.engine import Engine
from tests.support.points import Gate, at, once
from tests.support.waiting import eventually


def lost() -> psycopg.Error:
    return psycopg.OperationalError("the answer was lost")


def crowded() -> psycopg.Error:
    return psycopg.errors.TooManyConnections("no connection is free")


def gathered(engine: Engine, go: asyncio.Event):
    """A workflow that records a step and an event when the test says so."""

    async def wait() -> int:
        await go.wait()
        return 1

    @engine.workflow
    async def publish(ctx: Context) -> int:
        count = await ctx.step(wait)
        await ctx.set_event("count", count)
        # What comes before this is committed by itself, and is not the end yet.
        return await ctx.step(wait)

    return publish


async def test_a_batch_that_is_divided_after_a_lost_answer_counts_as_written(engine: Engine):
    go, gate = asyncio.Event(), Gate()
    publish = gathered(engine, go)
    ids = [await engine.begin(publish) for _ in range(4)]
    answers = once(lost())
    troubles = once(crowded())
    flushes = 0

    async def before() -> None:
        nonlocal flushes
        flushes += 1
        if flushes == 1:
            await gate()
        elif flushes == 2:
            await troubles()

    with at(journal__before_flush=before, journal__after_flush=answers):
        go.set()
        await gate.reached()
        gate.open()
        assert [await engine.output(id) for id in ids] == [1] * 4
    assert flushes > 3, "nothing was divided"
    for id in ids:
        assert await engine.events(id) == [("count", 1)]


@pytest.mark.parametrize("cache", [1000, 0])
async def test_a_park_whose_answer_was_lost_holds(engine: Engine, forgetful: Engine, cache):
    which = engine if cache else forgetful

    @which.workflow
    async def order(ctx: Context) -> int:
        return await ctx.receive("paid")

    parks = Gate()

    async def lose_the_park() -> None:
        if await which.one("select count(*) from workflows where status = 'WAITING'") and not parks._reached.is_set():
            parks._reached.set()
            raise lost()

    with at(journal__after_flush=lose_the_park):
        id = await which.begin(order)
        await parks.reached()
        await which.send(id, "paid", 7)
        assert await which.output(id) == 7


async def test_two_starts_of_one_id_in_one_flush_are_one(engine: Engine):
    @engine.workflow
    async def echo(ctx: Context, n: int) -> int:
        return n

    gate = Gate()
    with at(journal__before_flush=gate):
        first = engine.beside(engine.begin(echo, 0, id="first"))
        await gate.reached()
        same = [engine.beside(engine.begin(echo, 1, id="same")) for _ in range(3)]
        other = engine.beside(engine.begin(echo, 2, id="same"))
        await eventually(lambda: engine.runtime._journal.load == 4, message="the starts are not collected")
        gate.open()
        assert await first == "first"
        assert [await start for start in same] == ["same"] * 3
        with pytest.raises(WorkflowIdConflict):
            await other
    assert await engine.output("same") == 1


async def test_a_start_that_shares_a_flush_with_the_end_of_the_same_id_finds_it_taken(engine: Engine):
    go = asyncio.Event()
    publish = gathered(engine, go)
    await engine.begin(publish, id="same")
    gate = Gate()
    with at(journal__before_flush=gate):
        other = engine.beside(engine.begin(publish, id="other"))
        await gate.reached()
        go.set()
        again = engine.beside(engine.begin(publish, id="same"))
        await eventually(lambda: engine.runtime._journal.load == 2, message="end and start are not collected")
        gate.open()
        assert await again == "same"
        await other
    assert await engine.output("same") == 1


@pytest.mark.parametrize("answers", [[], [lost()]])
async def test_two_children_of_one_id_in_one_flush_are_one(engine: Engine, answers):
    @engine.workflow
    async def echo(ctx: Context, n: int) -> int:
        return n

    @engine.workflow
    async def parent(ctx: Context, inputs: list[int]) -> list[str]:
        async def child(n: int) -> str:
            try:
                return str(await (await ctx.start(echo, n, id="child")).result())
            except WorkflowIdConflict:
                return "taken"

        return await asyncio.gather(*(child(n) for n in inputs))

    passed = [False]

    async def lose() -> None:
        if answers and await engine.status("child") and not passed[0]:
            passed[0] = True
            raise answers[0]

    with at(journal__after_flush=lose):
        assert await engine.run(parent, [1, 1, 2]) == ["1", "1", "taken"]


async def beaten(engine: Engine) -> None:
    """Wait until one more beat was committed."""
    before = await engine.one("select heartbeat_at from executors where alive")

    async def later() -> bool:
        return bool(await engine.one("select heartbeat_at > %s from executors where alive", before))

    await eventually(later, message="no beat comes")


async def test_a_claim_whose_answer_was_lost_is_adopted(engine: Engine):
    ran = []

    async def note() -> None:
        ran.append(1)

    @engine.workflow
    async def later(ctx: Context) -> int:
        await ctx.step(note)
        return 1

    claims: list[int] = []

    async def lose_the_claim() -> None:
        if not claims and await engine.one("select count(*) from workflows where generation > 1"):
            claims.append(1)
            raise lost()

    with at(executor__after_claim=lose_the_claim):
        id = await engine.begin(later, delay=0.01)
        assert await engine.output(id) == 1
    assert claims
    assert len(ran) == 1
    assert await engine.one("select attempts from workflows where id = %s", id) == 1
    assert await engine.one("select generation from workflows where id = %s", id) == 3


async def test_what_is_being_read_for_replay_is_not_adopted(engine: Engine):
    """A claim that takes its time is still this process's own: nobody takes it from under it."""

    @engine.workflow
    async def later(ctx: Context) -> int:
        return 1

    gate = Gate()
    with at(executor__after_read=gate):
        id = await engine.begin(later, delay=0.01)
        await gate.reached()
        for _ in range(3):
            await beaten(engine)
        assert await engine.one("select generation from workflows where id = %s", id) == 2
        gate.open()
        assert await engine.output(id) == 1


async def test_a_start_whose_commit_was_not_told_runs_once(engine: Engine):
    ran = []

    async def note() -> None:
        ran.append(1)

    @engine.workflow
    async def work(ctx: Context) -> int:
        await ctx.step(note)
        return 1

    with at(journal__after_flush=once(lost(), lost())):
        assert await engine.run(work) == 1
    assert len(ran) == 1


async def test_records_of_an_executor_that_was_declared_dead_are_not_sent_again(engine: Engine):
    go = asyncio.Event()
    publish = gathered(engine, go)
    id = await engine.begin(publish)
    before = engine.executor
    held = asyncio.Event()

    async def stand_still() -> None:
        journal = engine.runtime._journal
        if journal.executor == before:
            held.set()
            await eventually(lambda: journal.executor != before, message="it was not told that it is dead")
            raise lost()

    with at(journal__before_flush=stand_still):
        go.set()
        await held.wait()
        await engine.execute("update executors set alive = false where id = %s", before)
        assert await engine.output(id) == 1
    assert await engine.events(id) == [("count", 1)]
    assert await engine.one("select generation from workflows where id = %s", id) == 2


async def test_a_database_that_is_back_is_not_waited_for_any_longer(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """Who reads "ready" and starts something must not stand behind the pause of a flush that was lost before."""
    monkeypatch.setattr(journal, "PAUSES", (60.0,))

    @engine.workflow
    async def nothing(ctx: Context) -> None:
        pass

    with at(journal__before_flush=once(lost())):
        with pytest.raises(DatabaseUnavailable):
            await engine.begin(nothing, id="lost")
        await engine.runtime.ready()
        await engine.begin(nothing, id="later")
    await engine.output("later")


@pytest.mark.parametrize("point", ["runtime__before_secret", "pulse__after_beat"])
async def test_a_life_that_could_not_begin_may_be_begun_again(engine: Engine, point: str):
    """Whoever starts a service while the database restarts wants it to wait, and not to end."""

    @engine.workflow
    async def nothing(ctx: Context) -> str:
        return "done"

    await engine.stop()
    with at(**{point: once(lost())}):
        with pytest.raises(DatabaseUnavailable):
            await engine.start()
        await engine.runtime.start()
    assert await engine.output(await engine.begin(nothing)) == "done"
