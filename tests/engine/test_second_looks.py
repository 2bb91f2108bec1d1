"""What a second hard look at the engine found: rare meetings, each brought about on purpose."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app import Context, Retry, step
from app.engine.notifier import Listener
from app.errors import DatabaseUnavailable
from app.model import ExecutorId, WorkflowId
from app.store import db
from app.store.executors import Peer
from tests.support import rows
from tests.support.engine import Engine, insist, running
from tests.support.points import Gate, at
from tests.support.sessions import observer, session
from tests.support.waiting import eventually

CUT = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name like 'milepost%%'"
)


@asynccontextmanager
async def impatient(url: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> AsyncIterator[Engine]:
    """An engine whose sessions have other limits: what takes five seconds otherwise is there at once."""
    for name, value in settings.items():
        monkeypatch.setitem(db.SESSION, name, value)
    async with running(url) as engine:
        yield engine


async def gone(name: str) -> None:
    """Wait until no task of this name goes on."""
    await eventually(lambda: all(task.get_name() != name for task in asyncio.all_tasks()), message=f"{name} goes on")


async def perhaps(event: asyncio.Event) -> None:
    """Give what should not happen a moment to happen."""
    task = asyncio.ensure_future(event.wait())
    await asyncio.wait([task], timeout=0.2)
    task.cancel()


# ---- whose run it is


async def test_a_parked_run_does_not_go_on_for_another_workflow_of_the_same_id(database_url):
    """Another process has deleted it, so nobody here has heard; and its successor was queued for want of room."""
    async with running(database_url, concurrency=1) as engine, running(database_url) as other:
        go = asyncio.Event()

        @engine.workflow
        async def program(ctx: Context, what: str) -> str:
            return f"{what} {await ctx.receive('go')}"

        @engine.workflow
        async def fills(ctx: Context) -> None:
            await ctx.step(go.wait)

        id = await engine.begin(program, "old", id="w")
        await engine.becomes(id, "WAITING")
        await eventually(lambda: id in engine.runtime._executor._parked)
        await other.cancel(id)
        await other.runtime.commands.delete(WorkflowId(id))
        await eventually(lambda: engine.runtime._executor.room)
        filling = await engine.begin(fills)
        await engine.begin(program, "new", id=id)
        assert await engine.status(id) == "QUEUED"
        go.set()
        await engine.end(filling)
        await engine.send(id, "go", "on")
        assert await engine.output(id) == "new on"


# ---- transactions


async def test_transactions_side_by_side_come_out_in_the_order_in_which_they_were_recorded(engine: Engine):
    """Also when both return while their workflow stands still, with too much of it uncommitted."""
    loud, both = asyncio.Event(), asyncio.Event()
    go = {1: asyncio.Event(), 2: asyncio.Event()}
    commits: list[int] = []

    async def enter(connection: Any, number: int) -> int:
        engine.ran.append(f"in {number}")
        await go[number].wait()
        engine.ran.append(f"out {number}")
        return number

    async def floods(ctx: Any) -> None:
        engine.ran.append("quiet")
        await loud.wait()
        for number in range(1_100):
            ctx.set_event("n", number)
        engine.ran.append("loud")

    @engine.workflow
    async def program(ctx: Context) -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            order.append(await ctx.transaction(enter, number))

        await asyncio.gather(ctx.step(floods, ctx), one(1), one(2))
        return order

    async def committed() -> None:
        commits.append(1)
        if len(commits) == 2:
            both.set()

    id = await engine.begin(program)
    await engine.noted("in 1", "in 2", "quiet")
    gate = Gate()
    with at(journal__before_flush=gate, transaction__after_commit=committed):
        loud.set()
        await gate.reached()
        await engine.noted("loud")
        for number in (1, 2):
            go[number].set()
            await engine.noted(f"out {number}")
            await perhaps(both)
        gate.open()
        order = await engine.output(id)
    recorded = await engine.rows(
        "select output from steps where workflow_id = %s and kind = 'transaction' order by done", id
    )
    assert order == [row["output"] for row in recorded]
    assert sorted(order) == [1, 2]


@pytest.mark.direct
async def test_a_row_that_somebody_holds_does_not_fail_a_transaction(database_url, monkeypatch):
    async with impatient(database_url, monkeypatch, lock_timeout="150ms") as engine, session(database_url) as rival:
        await engine.execute("create table ledger (amount int)")
        go = asyncio.Event()

        async def enter(connection: Any) -> int:
            await connection.execute("insert into ledger values (1)")
            engine.ran.append("in")
            await go.wait()
            return 1

        @engine.workflow
        async def program(ctx: Context) -> int:
            return await ctx.transaction(enter)

        id = await engine.begin(program)
        await engine.noted("in")
        await rival.rows("select from workflows where id = %(id)s for no key update", {"id": id})
        go.set()
        # It has met the end of its patience when the next thing it does is to ask what became of it.
        await rival.blocks("milepost%watch")
        await rival.commit()
        assert await engine.output(id) == 1
        assert engine.ran == ["in", "in"]
        assert await engine.one("select count(*) from ledger") == 1


async def test_a_wait_behind_another_transaction_does_not_fail_a_transaction(database_url, monkeypatch):
    """The server ends the second one's session meanwhile, for it does nothing; that is not its function's fault."""
    monkeypatch.setattr(db, "IDLE", 0.2)
    async with impatient(database_url, monkeypatch, idle_in_transaction_session_timeout="200ms") as engine:
        await engine.execute("create table ledger (amount int)")

        async def enter(connection: Any, number: int) -> int:
            await connection.execute("insert into ledger values (%s)", (number,))
            engine.ran.append(f"{number}")
            return number

        @engine.workflow
        async def program(ctx: Context) -> Any:
            return await asyncio.gather(*(ctx.transaction(enter, number) for number in (1, 2)))

        async def ended() -> bool:
            return not await engine.rows(
                "select from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
            )

        gate = Gate()
        with at(transaction__before_commit=gate):
            id = await engine.begin(program)
            await gate.reached()
            await engine.noted("1", "2")
            await eventually(ended)
            gate.open()
            assert await engine.output(id) == [1, 2]
        assert [row["amount"] for row in await engine.rows("select amount from ledger order by 1")] == [1, 2]


# ---- after a cancel


async def test_no_try_begins_after_a_cancel_was_acknowledged(database_url, monkeypatch):
    """In a short pause between two tries the run stays in memory, and the pause goes on."""
    monkeypatch.setattr("random.random", lambda: 1.0)
    async with running(database_url, linger=5.0) as engine:

        @step(retry=Retry(attempts=3, delay=0.3, backoff=1.0))
        async def flaky() -> None:
            engine.ran.append("tried")
            raise OSError

        @engine.workflow
        async def program(ctx: Context) -> None:
            await ctx.step(flaky)

        id = await engine.begin(program)
        await engine.noted("tried")
        assert (await engine.cancel(id)).status == "CANCELLED"
        tried = len(engine.ran)
        await gone(f"step {id}:1")
        assert len(engine.ran) == tried


async def test_no_step_that_waits_for_a_thread_begins_after_a_cancel_was_acknowledged(database_url):
    async with running(database_url, step_threads=1) as engine:
        go, queued = threading.Event(), asyncio.Event()

        def slow(number: int) -> None:
            engine.ran.append(f"{number}")
            go.wait(10)

        @engine.workflow
        async def program(ctx: Context, number: int) -> None:
            await ctx.step(slow, number)

        async def passed() -> None:
            queued.set()

        first = await engine.begin(program, 1)
        await engine.noted("1")
        with at(step__before_call=passed):
            second = await engine.begin(program, 2)
            # From this point on nothing is waited for until the thread is.
            await queued.wait()
        assert (await engine.cancel(second)).status == "CANCELLED"
        go.set()
        await engine.end(first)
        await gone(f"step {second}:1")
        assert engine.ran == ["1"]


async def test_a_repeated_cancel_wakes_the_parent_that_the_first_one_did_not(engine: Engine):
    """The answer to the first one's commit was lost, and with it who is to be told."""

    @engine.workflow
    async def child(ctx: Context) -> None:
        await ctx.receive("never")

    @engine.workflow
    async def parent(ctx: Context) -> str:
        try:
            return str(await (await ctx.start(child, id="child")).result())
        except Exception as error:
            return type(error).__name__

    id = await engine.begin(parent)
    await engine.becomes("child", "WAITING")
    await engine.becomes(id, "WAITING")
    await eventually(lambda: id in engine.runtime._executor._parked)
    await gone(f"look again {id}")
    await engine.execute(
        "update workflows set status = 'CANCELLED', updated_at = now(), completed_at = now(), wake_at = null"
        " where id = 'child'"
    )
    assert await engine.status(id) == "WAITING"
    assert (await engine.cancel("child")).status == "CANCELLED"
    assert await engine.output(id) == "ChildFailed"


# ---- refused


async def test_what_is_refused_while_its_workflow_stands_still_ends_it(engine: Engine):
    """With too much uncommitted it waits for a commit, and that one never comes."""
    await engine.execute("alter table events add constraint none_is_bad check (key <> 'bad')")

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.set_event("bad", 0)
        for number in range(2_200):
            await ctx.set_event("n", number)
        await ctx.sleep(0)

    id = await engine.begin(program)
    assert (await engine.error(id, timeout=5))["type"]
    assert await engine.one("select count(*) from events where workflow_id = %s and key = 'bad'", id) == 0


# ---- peers


async def test_everybody_reads_again_when_a_peer_is_not_alive_any_more(database_url):
    """It may have committed what it had no time to tell."""
    missed: list[bool] = []
    listener = Listener(
        db.Database(database_url),
        executor=lambda: ExecutorId("me"),
        heard=lambda ids: None,
        missed=lambda: missed.append(True),
        polled=lambda number: None,
    )
    alive, dead = (Peer(ExecutorId("peer"), alive, 0, 0.0, 0.0, True) for alive in (True, False))
    listener.compare([alive])
    listener.compare([alive])
    assert missed == []
    listener.compare([dead])
    assert missed == [True]
    listener.compare([dead])
    listener.compare([])
    assert missed == [True]
    listener.compare([alive])
    listener.compare([])
    assert missed == [True, True]


async def test_a_peer_that_an_outage_kept_silent_is_given_the_time_to_live_to_come_back(database_url):
    """Whoever is the first to be back sees all the others silent for longer than that."""
    async with running(database_url, beat=3600.0, time_to_live=0.8) as engine, observer(database_url) as look:
        pulse, recovery, loop = engine.runtime._pulse, engine.runtime._recovery, asyncio.get_running_loop()

        async def beat() -> None:
            before = recovery._beaten
            pulse.poke()
            await eventually(lambda: recovery._beaten > before and pulse._poked._waiters)

        async def alive() -> bool:
            return bool(await engine.one("select alive from executors where id = 'peer'"))

        async def buried() -> bool:
            await beat()
            return not await engine.rows("select from executors where id = 'peer' and alive")

        await beat()
        await rows.add_executor(look, "peer")
        await look.rows("update executors set heartbeat_at = now() - interval '5 s' where id = 'peer'")
        # No beat is answered for longer than half the time-to-live.
        away_until = loop.time() + 0.5
        await eventually(lambda: loop.time() > away_until)
        await beat()
        assert await alive()
        await eventually(buried)


# ---- the server


@pytest.mark.direct
async def test_no_session_is_kept_that_was_opened_while_the_server_was_read_only(engine: Engine):
    """As a stand-by is before it takes over: it accepts sessions, and goes on to refuse their writes."""

    @engine.workflow
    async def program(ctx: Context) -> int:
        return 1

    assert await engine.run(program) == 1
    name = await engine.one("select current_database()")
    await engine.execute(f'alter database "{name}" set default_transaction_read_only = on')
    await engine.rows(CUT)
    await eventually(lambda: engine.runtime._pulse._away)
    with pytest.raises(DatabaseUnavailable):
        await engine.begin(program)
    await engine.execute("set default_transaction_read_only = off")
    await engine.execute(f'alter database "{name}" reset default_transaction_read_only')
    async with asyncio.timeout(8):
        id = await insist(lambda: engine.begin(program))
        assert await engine.output(id) == 1
        await eventually(lambda: not engine.runtime._pulse._away)
