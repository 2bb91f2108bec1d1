"""What meets what at the lock of one row, in both orders: PostgreSQL says who waits, and nothing gets lost."""

import uuid

from app.model import ExecutorId, JsonText, Status, WorkflowId
from app.store import messages, steps, workflows
from app.store.messages import Draft
from tests.support import rows
from tests.support.rows import batch, column, counts, entry, event, start, step, wait
from tests.support.sessions import Session, line, observer, session, sessions, under_way

W, V = WorkflowId("w"), WorkflowId("v")


async def send(sender: Session, target: str = W, topic: str = "paid") -> Status | None:
    """Lock and send as the mail does; the status that was found, None: there is no such workflow."""
    locked = await messages.lock(sender.connection, [target], skip=False)
    if target not in locked or locked[target].status.terminal:
        return locked[target].status if target in locked else None
    draft = Draft(WorkflowId(target), str(uuid.uuid4()), topic, JsonText("1"), b"", None)
    await messages.send(sender.connection, [draft])
    return locked[target].status


def park(seen=0, **more):
    return batch(entry(W, fin="WAITING", seen=seen, **more), waits=[wait(W)])


def watching(target=V, key="status"):
    return batch(entry(W, fin="WAITING"), waits=[wait(W, kind="get_event", target=target, key=key)])


async def prepare(url, *ids, **columns):
    async with session(url) as setup:
        for id in ids:
            await rows.add_workflow(setup, id, **columns)
        await setup.commit()


# ---- a message meets a park


async def test_a_message_that_comes_first_has_the_park_refused(database_url):
    await prepare(database_url, W)
    async with session(database_url) as sender, line(database_url) as journal, observer(database_url) as look:
        await send(sender)
        async with under_way(rows.flush(journal, park())) as flush:
            await sender.blocks("milepost test")
            await sender.commit()
            answer = await flush
        assert (answer[W, False].mine, answer[W, False].moved) == (True, False)
        assert await column(look, W, "status") == "RUNNING"
        (unread,) = await messages.unread(look, [(W, "paid", 0)])
        assert unread is not None
        assert (unread.inbox, unread.position) == (1, 1)


async def test_a_message_that_comes_second_wakes_the_parked_one(database_url):
    await prepare(database_url, W)
    async with sessions(database_url, 2) as (journal, sender), observer(database_url) as look:
        answer = await rows.flush(journal, park())
        async with under_way(send(sender)) as sending:
            await journal.blocks()
            await journal.commit()
            assert await sending is Status.WAITING
        await sender.commit()
        assert answer[W, False].moved
        assert await column(look, W, "status") == "QUEUED"
        assert await column(look, W, "wake_at <= now()")


async def test_a_message_that_came_and_went_between_the_look_and_the_park_has_it_refused(database_url):
    await prepare(database_url, W, inbox=3)
    async with line(database_url) as journal:
        assert not (await rows.flush(journal, park(seen=2)))[W, False].moved
        assert (await rows.flush(journal, park(seen=3)))[W, False].moved


async def test_senders_that_wait_for_each_other_number_their_messages_without_a_gap(database_url):
    await prepare(database_url, W)
    async with sessions(database_url, 2) as (first, second), observer(database_url) as look:
        await send(first)
        async with under_way(send(second)) as sending:
            await first.blocks()
            await first.commit()
            await sending
        await second.commit()
        found = await look.rows("select position from messages order by position")
        assert [row.position for row in found] == [1, 2]


# ---- an event or an end meets a park that waits for it


async def test_an_event_that_comes_first_is_seen_by_the_second_look(database_url):
    await prepare(database_url, W, V)
    async with session(database_url) as publisher, line(database_url) as parker, observer(database_url) as look:
        answer = await rows.flush(publisher, batch(entry(V), events=[event(V)]))
        async with under_way(workflows.watch(parker, [V])) as watching_v:
            await publisher.blocks("milepost test")
            await publisher.commit()
            await watching_v
        assert not answer[V, False].watched
        await rows.flush(parker, watching())
        (glance,) = await workflows.glance(parker, [(V, "status")])
        assert glance is not None
        assert glance.event is not None
        assert await workflows.wake(parker, [W]) == [W]
        assert await column(look, W, "status") == "QUEUED"


async def test_an_event_that_comes_second_is_told_that_somebody_watches(database_url):
    await prepare(database_url, W, V)
    async with session(database_url) as parker, line(database_url) as publisher, observer(database_url) as look:
        await workflows.watch(parker, [V])
        async with under_way(rows.flush(publisher, batch(entry(V, fin="SUCCEEDED"), events=[event(V)]))) as flush:
            await parker.blocks("milepost test")
            await parker.commit()
            answer = await flush
        assert answer[V, False].watched
        await rows.flush(parker, watching())
        await parker.commit()
        assert await workflows.watchers(publisher, [V], {}) == [W]
        assert await workflows.watchers(publisher, [], {V: ["status"]}) == [W]
        assert await workflows.wake(publisher, [W]) == [W]
        assert await column(look, W, "status") == "QUEUED"


async def test_a_wake_that_meets_the_park_wakes_what_was_parked_meanwhile(database_url):
    await prepare(database_url, W)
    async with session(database_url) as parker, line(database_url) as waker, observer(database_url) as look:
        await look.rows("update workflows set status = 'WAITING' where id = 'w'")
        await parker.rows("update workflows set tags = '{}' where id = 'w'")
        async with under_way(workflows.wake(waker, [W])) as waking:
            await parker.blocks("milepost test")
            await parker.commit()
            assert await waking == [W]


async def test_what_an_executor_left_parked_between_its_park_and_its_second_look_is_found(database_url):
    await prepare(database_url, W, V, "x", "y", "z")
    async with line(database_url) as journal:
        await rows.flush(journal, batch(entry(V, fin="SUCCEEDED"), events=[event(V)]))
        for n, (id, target, key) in enumerate(
            [(W, V, "status"), ("x", V, None), ("y", "never started", None), ("z", "z", "status")], 1
        ):
            waits = [wait(id, n, kind="get_event", target=target, key=key)]
            await rows.flush(journal, batch(entry(id, fin="WAITING"), waits=waits))
        assert sorted(await workflows.overdue_waits(journal)) == [W, "x", "y"]


# ---- deletion meets whatever brings rows into being


async def delete(session: Session, id: str = W) -> list[str]:
    """As the command does: lock first, then look again and remove."""
    await workflows.lock(session.connection, [id])
    return [gone.id for gone in await workflows.delete_if_ended(session.connection, [id])]


async def test_a_deletion_that_comes_first_leaves_nothing_to_resume(database_url):
    await prepare(database_url, W, status="CANCELLED")
    async with sessions(database_url, 2) as (deleter, resumer), observer(database_url) as look:
        assert await delete(deleter) == [W]
        async with under_way(workflows.lock(resumer.connection, [W])) as locking:
            await deleter.blocks()
            await deleter.commit()
            assert await locking == {}
        assert sum((await counts(look, W)).values()) == 0


async def test_a_deletion_that_comes_after_a_resume_removes_nothing(database_url):
    await prepare(database_url, W, status="CANCELLED")
    async with sessions(database_url, 2) as (resumer, deleter), observer(database_url) as look:
        await resumer.rows(
            "insert into steps (workflow_id, seq, done, name, kind, digest, attempts, started_at, completed_at)"
            " values ('w', 1, 1, 'pay', 'step', 0, 1, now(), now())"
        )
        await workflows.lock(resumer.connection, [W])
        await workflows.resume(resumer.connection, W)
        async with under_way(workflows.delete_if_ended(deleter.connection, [W])) as deleting:
            await resumer.blocks()
            await resumer.commit()
            assert await deleting == []
        await deleter.commit()
        assert (await counts(look, W))["steps"] == 1


async def test_a_deletion_sees_what_was_written_by_the_commits_that_it_waited_for(database_url):
    await prepare(database_url, W)
    async with sessions(database_url, 2) as (other, deleter), observer(database_url) as look:
        await send(other)
        await rows.flush(other, batch(entry(W, fin="SUCCEEDED"), steps=[step(W)], events=[event(W)]))
        async with under_way(delete(deleter)) as deleting:
            await other.blocks()
            await other.commit()
            assert await deleting == [W]
        await deleter.commit()
        assert sum((await counts(look, W)).values()) == 0


async def test_a_message_that_waited_for_a_deletion_is_not_accepted(database_url):
    await prepare(database_url, W, status="SUCCEEDED")
    async with sessions(database_url, 2) as (deleter, sender), observer(database_url) as look:
        await delete(deleter)
        async with under_way(send(sender)) as sending:
            await deleter.blocks()
            await deleter.commit()
            assert await sending is None
        await sender.commit()
        assert sum((await counts(look, W)).values()) == 0


async def test_a_message_that_waited_for_the_end_is_not_accepted(database_url):
    await prepare(database_url, W)
    async with sessions(database_url, 2) as (journal, sender), observer(database_url) as look:
        await rows.flush(journal, batch(entry(W, fin="SUCCEEDED")))
        async with under_way(send(sender)) as sending:
            await journal.blocks()
            await journal.commit()
            assert await sending is Status.SUCCEEDED
        await sender.commit()
        assert (await counts(look, W))["messages"] == 0


async def test_an_end_that_waited_for_a_message_keeps_it(database_url):
    await prepare(database_url, W)
    async with session(database_url) as sender, line(database_url) as journal, observer(database_url) as look:
        await send(sender)
        async with under_way(rows.flush(journal, batch(entry(W, fin="SUCCEEDED")))) as flush:
            await sender.blocks("milepost test")
            await sender.commit()
            assert (await flush)[W, False].moved
        assert (await counts(look, W))["messages"] == 1
        assert await column(look, W, "status || inbox") == "SUCCEEDED1"


# ---- taking over meets the last commit of the old owner


async def test_a_take_over_reads_what_the_old_owner_committed_last(database_url):
    async with session(database_url) as setup:
        await rows.add_executor(setup, "old", alive=False)
        await rows.add_workflow(setup, W, executor_id="old")
        await setup.commit()
    async with session(database_url) as old, line(database_url) as new:
        await rows.flush(old, batch(entry(W), steps=[step(W)], events=[event(W)]), executor="old")
        take = (ExecutorId("new"), [("shop", "1")], 10)
        assert await workflows.take_over(new, *take) == ([], 0)  # it does not wait for a row
        await old.commit()
        (owned,), _ = await workflows.take_over(new, *take)
        records = (await steps.records(new, [W]))[W]
    assert (owned.generation, owned.attempts) == (2, 2)
    assert ([step.seq for step in records.steps], records.position) == ([1], 1)


async def test_the_old_owner_that_waited_for_a_take_over_writes_nothing(database_url):
    async with session(database_url) as setup:
        await rows.add_executor(setup, "old", alive=False)
        await rows.add_workflow(setup, W, executor_id="old")
        await setup.commit()
    async with session(database_url) as new, line(database_url) as old, observer(database_url) as look:
        (owned,), _ = await workflows.take_over(new, ExecutorId("new"), [("shop", "1")], 10)
        late = batch(entry(W, fin="SUCCEEDED"), steps=[step(W)])
        async with under_way(rows.flush(old, late, executor="old")) as flush:
            await new.blocks("milepost test")
            await new.commit()
            assert not (await flush)[W, False].mine
        assert owned.generation == 2
        assert (await counts(look, W))["steps"] == 0


# ---- the cancel of a tree meets the start of a child


async def cancel(session: Session, id: str = W) -> list[str]:
    """A workflow and what is below it, as the command does."""
    ended, level = [], [id]
    while level:
        found, _ = await workflows.abort_if_active(
            session.connection, [(i, None) for i in level], Status.CANCELLED, None
        )
        ended += [workflow.id for workflow in found]
        level = await workflows.children(session.connection, [workflow.id for workflow in found])
    return ended


async def test_a_cancel_sees_the_child_that_was_started_by_the_commit_it_waited_for(database_url):
    await prepare(database_url, W)
    async with sessions(database_url, 2) as (journal, canceller), observer(database_url) as look:
        await rows.flush(journal, batch(entry(W), starts=[start("child", parent_id=W)]))
        async with under_way(cancel(canceller)) as cancelling:
            await journal.blocks()
            await journal.commit()
            assert await cancelling == [W, "child"]
        await canceller.commit()
        assert await column(look, "child", "status") == "CANCELLED"


async def test_a_start_that_waited_for_the_cancel_of_its_parent_brings_no_child(database_url):
    await prepare(database_url, W)
    async with session(database_url) as canceller, line(database_url) as journal, observer(database_url) as look:
        assert await cancel(canceller) == [W]
        async with under_way(rows.flush(journal, batch(entry(W), starts=[start("child", parent_id=W)]))) as flush:
            await canceller.blocks("milepost test")
            await canceller.commit()
            assert ("child", True) not in await flush
        assert await column(look, "child", "status") is None


# ---- a clean-up workflow is started by whoever ends it, once


async def test_of_two_cancels_one_starts_the_clean_up(database_url):
    await prepare(database_url, W, abort_name="refund", abort_version="1")
    async with sessions(database_url, 2) as (first, second), observer(database_url) as look:
        ended, cleanups = await workflows.abort_if_active(first.connection, [(W, None)], Status.CANCELLED, None)
        assert ([workflow.id for workflow in ended], cleanups) == ([W], True)
        async with under_way(cancel(second)) as again:
            await first.blocks()
            await first.commit()
            assert await again == []
        await second.commit()
        assert await column(look, "w:abort", "status") == "QUEUED"
