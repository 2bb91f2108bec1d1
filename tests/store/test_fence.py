"""A flush asks the locked row: what was ended, deleted or taken over meanwhile gets nothing, not even a child."""

from datetime import UTC, datetime

import pytest

from app.model import ExecutorId, JsonText, StepKind, WorkflowId
from app.store import steps
from tests.support import rows
from tests.support.rows import batch, entry, event, start, step, wait
from tests.support.sessions import line, observer, session, sessions, under_way

RIVALS = {
    "cancelled": "update workflows set status = 'CANCELLED', completed_at = now() where id = 'w'",
    "taken over": "update workflows set executor_id = 'other', generation = generation + 1 where id = 'w'",
    "claimed again by this executor": "update workflows set generation = generation + 1 where id = 'w'",
    "handed over": "update workflows set status = 'QUEUED', wake_at = now() where id = 'w'",
    "deleted": "delete from workflows where id = 'w'",
}
HARMLESS = {
    "tags": "update workflows set tags = '{\"seen\": \"yes\"}' where id = 'w'",
    "watched": "update workflows set watched = true where id = 'w'",
    "inbox": "update workflows set inbox = inbox + 1 where id = 'w'",
}


def everything(fin=None):
    """A batch with a row of every kind, all of one workflow."""
    return batch(
        entry("w", fin=fin, fertile=True),
        starts=[start("child", parent_id="w")],
        steps=[step("w")],
        events=[event("w")],
        received=[{"id": "w", "position": 1, "seq": 1}],
        callbacks=[{"id": "w", "token_hash": "00", "seq": 1, "topic": "paid", "expires": 60}],
        waits=[wait("w", 2)],
        waited=[{"id": "w", "seq": 1}],
    )


async def prepare(url, **columns):
    async with session(url) as setup:
        await rows.add_workflow(setup, "w", inbox=1, barren=1, **columns)
        await setup.rows(
            "insert into messages (workflow_id, position, id, topic, payload, payload_hash, event_position, sent_at)"
            " values ('w', 1, gen_random_uuid(), 'paid', '1', '', 0, now())"
        )
        await setup.rows("insert into waits (workflow_id, seq, kind) values ('w', 1, 'receive')")
        await setup.commit()


async def written(url):
    """What of `everything` there is."""
    async with observer(url) as look:
        count = await rows.counts(look, "w")
        (row,) = await look.rows(
            "select count(*) filter (where received_seq is not null) as received,"
            " (select count(*) from waits where seq = 2) as waits,"
            " (select count(*) from waits where seq = 1) as waited from messages"
        )
        return {
            "step": count["steps"],
            "event": count["events"],
            "callback": count["callbacks"],
            "received": row.received,
            "wait": row.waits,
            "waited": 1 - row.waited,
            "child": (await rows.counts(look, "child"))["workflows"],
        }


@pytest.mark.parametrize("fin", [None, "SUCCEEDED", "WAITING"])
@pytest.mark.parametrize("rival", RIVALS)
async def test_a_flush_that_waited_for_a_rival_writes_nothing(database_url, rival, fin):
    await prepare(database_url)
    async with session(database_url) as other, line(database_url) as journal:
        await other.rows(RIVALS[rival])
        async with under_way(rows.flush(journal, everything(fin))) as flush:
            await other.blocks("milepost test")
            await other.commit()
            answer = await flush
    assert not [row for row in answer.values() if row.mine or row.moved]
    assert not any((await written(database_url)).values())


@pytest.mark.parametrize("fin", [None, "SUCCEEDED", "WAITING"])
@pytest.mark.parametrize("rival", RIVALS)
async def test_a_flush_that_comes_after_a_rival_writes_nothing(database_url, rival, fin):
    await prepare(database_url)
    async with session(database_url) as other, line(database_url) as journal:
        await other.rows(RIVALS[rival])
        await other.commit()
        answer = await rows.flush(journal, everything(fin), skip=True)
    assert not [row for row in answer.values() if row.mine or row.moved]
    assert not any((await written(database_url)).values())


@pytest.mark.parametrize("rival", RIVALS)
async def test_a_rival_that_waited_for_a_flush_finds_all_of_it(database_url, rival):
    await prepare(database_url)
    async with sessions(database_url, 2) as (journal, other):
        await rows.flush(journal, everything())
        async with under_way(other.rows(RIVALS[rival])) as rivalry:
            await journal.blocks()
            await journal.commit()
            await rivalry
            await other.commit()
    assert all((await written(database_url)).values())


async def test_a_flush_that_waited_for_a_rival_who_gave_up_writes_everything(database_url):
    await prepare(database_url)
    async with session(database_url) as other, line(database_url) as journal:
        await other.rows(RIVALS["cancelled"])
        async with under_way(rows.flush(journal, everything())) as flush:
            await other.blocks("milepost test")
            await other.rollback()
            answer = await flush
    assert answer["w", False].mine
    assert all((await written(database_url)).values())


@pytest.mark.parametrize("rival", [*RIVALS, *HARMLESS])
async def test_the_fast_lane_leaves_a_held_row_alone(database_url, rival):
    await prepare(database_url)
    async with session(database_url) as other, line(database_url) as journal:
        await other.rows((RIVALS | HARMLESS)[rival])
        assert await rows.flush(journal, everything(), skip=True) == {}
        await other.rollback()
    assert not any((await written(database_url)).values())


@pytest.mark.parametrize("change", HARMLESS)
async def test_a_harmless_change_that_a_flush_waited_for_is_kept(database_url, change):
    await prepare(database_url)
    async with session(database_url) as other, line(database_url) as journal:
        await other.rows(HARMLESS[change])
        async with under_way(rows.flush(journal, everything("SUCCEEDED"))) as flush:
            await other.blocks("milepost test")
            await other.commit()
            answer = await flush
    assert (answer["w", False].mine, answer["w", False].moved) == (True, True)
    assert answer["w", False].watched == (change == "watched")
    async with observer(database_url) as look:
        (row,) = await look.rows("select status, inbox, watched, tags ->> 'seen' as seen from workflows where id = 'w'")
    changed = {"inbox": row.inbox == 2, "watched": row.watched, "tags": row.seen == "yes"}
    assert row.status == "SUCCEEDED"
    assert changed[change]


async def test_one_fenced_workflow_does_not_keep_the_others_of_its_flush_from_being_written(database_url):
    async with session(database_url) as setup:
        await rows.add_workflow(setup, "mine")
        await rows.add_workflow(setup, "theirs", executor_id="other")
        await setup.commit()
    given = batch(
        entry("mine"),
        entry("theirs"),
        entry("unheard of"),
        starts=[start("child of mine", parent_id="mine"), start("child of theirs", parent_id="theirs")],
        steps=[step("mine"), step("theirs"), step("unheard of")],
    )
    async with line(database_url) as journal, observer(database_url) as look:
        answer = await rows.flush(journal, given)
        assert {id for id, _ in answer} == {"mine", "theirs", "child of mine"}
        assert (answer["mine", False].mine, answer["theirs", False].mine) == (True, False)
        assert [row.workflow_id for row in await look.rows("select workflow_id from steps")] == ["mine"]


@pytest.mark.parametrize("rival", ["cancelled", "taken over", "handed over"])
async def test_the_step_of_a_transaction_is_not_recorded_once_its_workflow_is_lost(database_url, rival):

    now = datetime.now(UTC)
    recorded = steps.Recorded(1, 1, "pay", StepKind.TRANSACTION, 0, JsonText("1"), None, 1, None, now, now)
    await prepare(database_url)
    async with sessions(database_url, 2) as (other, own):
        await other.rows(RIVALS[rival])
        recording = steps.record_if_owned(own.connection, WorkflowId("w"), ExecutorId("me"), 1, recorded)
        async with under_way(recording) as record:
            await other.blocks()
            await other.commit()
            assert not await record
            await own.commit()
    assert not (await written(database_url))["step"]
