"""Executors that are dead, or were only thought to be: nothing that they ran is left to nobody."""

import asyncio

import pytest

from app import Context
from app.engine import recovery
from app.errors import WorkflowActive
from app.model import WorkflowId
from tests.support import rows
from tests.support.engine import Engine, insist, running
from tests.support.rows import batch, start
from tests.support.sessions import observer, session, sessions, under_way
from tests.support.waiting import eventually


def worker(engine: Engine, go: asyncio.Event):
    async def wait() -> int:
        await go.wait()
        return 1

    @engine.workflow(name="work")
    async def work(ctx: Context) -> int:
        return await ctx.step(wait)


async def test_a_start_that_commits_after_the_burial_of_its_executor_is_taken_over(
    engine: Engine, database_url, monkeypatch
):
    """The row says running, and belongs to somebody who was dead before it was there."""
    monkeypatch.setattr(recovery, "PATIENCE", 0.2)
    go = asyncio.Event()
    go.set()
    worker(engine, go)
    async with session(database_url) as late, observer(database_url) as look:
        await rows.add_executor(look, "late")
        await rows.flush(late, batch(starts=[start("w", name="work", status="RUNNING")]), executor="late")
        await look.rows("update executors set alive = false where id = 'late'")
        await beats(engine, 3)
        await late.commit()
        assert await engine.output("w", timeout=15) == 1


async def beats(engine: Engine, count: int) -> None:
    """Wait until so many beats were committed."""
    for _ in range(count):
        before = await engine.one("select heartbeat_at from executors where id = %s", engine.executor)

        async def later(before=before) -> bool:
            return bool(
                await engine.one("select heartbeat_at > %s from executors where id = %s", before, engine.executor)
            )

        await eventually(later, message="no beat comes")


async def test_what_a_process_starts_before_it_hears_of_its_own_death_is_not_lost(database_url, monkeypatch):
    """It slept; the others have buried and forgotten it. Its next flush commits all the same."""
    monkeypatch.setattr(recovery, "PATIENCE", 0.2)
    async with running(database_url) as awake, running(database_url, beat=3600.0) as asleep:
        go = asyncio.Event()
        worker(awake, go)
        worker(asleep, go)
        old, pulse, journal = asleep.executor, asleep.runtime._pulse, asleep.runtime._journal
        await eventually(lambda: pulse._poked._waiters, message="its first beats do not end")
        await awake.execute(
            "update executors set alive = false, heartbeat_at = heartbeat_at - interval '1 hour' where id = %s", old
        )

        async def forgotten() -> bool:
            return not await awake.one("select count(*) from executors where id = %s", old)

        await eventually(forgotten, timeout=15, message="the dead executor is not forgotten")
        asleep.beside(asleep.begin("work", id="w"))
        await awake.becomes("w", "RUNNING")
        pulse.poke()
        await eventually(lambda: journal.executor not in ("", old), message="it does not hear of its death")
        await insist(lambda: asleep.begin("work", id="w"))
        go.set()
        assert await awake.output("w", timeout=15) == 1


async def test_a_deletion_that_waited_for_the_end_deletes(engine: Engine, database_url):
    """By then it is over: to say that the workflow is active would be wrong, whatever was true when it was asked."""
    async with sessions(database_url, 1) as (other,), observer(database_url) as look:
        await rows.add_workflow(look, "w", executor_id=engine.executor)
        await other.rows("update workflows set status = 'CANCELLED', completed_at = now() where id = 'w'")
        async with under_way(engine.runtime.commands.delete(WorkflowId("w"))) as deleting:
            await other.blocks()
            await other.commit()
            await deleting
        assert await rows.column(look, "w", "status") is None
        await rows.add_workflow(look, "w", executor_id=engine.executor)
        with pytest.raises(WorkflowActive):
            await engine.runtime.commands.delete(WorkflowId("w"))


async def test_a_cancel_of_a_tree_and_letters_to_it_do_not_deadlock(engine: Engine, database_url):
    """A child may have an id before its parent's: the cancel wants the parent first, the mail goes by id."""
    async with observer(database_url) as look, session(database_url) as mail:
        await rows.add_workflow(look, "z", executor_id="other")
        await rows.add_workflow(look, "a", executor_id="other", parent_id="z")
        await mail.rows("select 1 from workflows where id = 'a' for no key update")
        async with under_way(engine.runtime.commands.cancel(WorkflowId("z"))) as cancelling:
            await mail.blocks()
            wanted = "select 1 from workflows where id = 'z' for no key update"
            async with under_way(mail.rows(wanted)) as locking:
                await asyncio.wait([locking, cancelling], return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(locking, return_exceptions=True)
                await mail.rollback()
            assert (await cancelling).status == "CANCELLED"
        assert await rows.column(look, "a", "status") == "CANCELLED"
