"""A flush whose answer was lost is sent again: what the first try wrote counts as written, and nothing twice."""

import uuid

import psycopg
import pytest

from app.model import ExecutorId
from app.store import workflows
from tests.support import rows
from tests.support.rows import batch, column, counts, entry, event, start, step, wait
from tests.support.sessions import line, observer, session, sessions, under_way

TOKEN = uuid.uuid4()


async def prepare(url, **columns):
    async with session(url) as setup:
        await rows.add_workflow(setup, "w", **columns)
        await setup.commit()


def finish():
    """An end with all its records, and a child."""
    return batch(
        entry("w", fin="SUCCEEDED", output=7),
        starts=[start("child", TOKEN, parent_id="w")],
        steps=[step("w")],
        events=[event("w")],
        callbacks=[{"id": "w", "token_hash": "00", "seq": 1, "topic": "paid", "expires": 60}],
        waits=[wait("w")],
    )


async def test_the_answer_of_a_second_try_is_that_of_the_first(database_url):
    await prepare(database_url)
    async with line(database_url) as journal, observer(database_url) as look:
        first = await rows.flush(journal, finish())
        count = await counts(look, "w")
        second = await rows.flush(journal, finish(), again=True)
        assert {key: row[1:5] for key, row in first.items()} == {key: row[1:5] for key, row in second.items()}
        assert second["w", False].mine
        assert second["child", True].started
        assert await counts(look, "w") == count
        assert set(count.values()) == {0, 1}


async def test_a_message_keeps_the_time_at_which_the_first_try_received_it(database_url):
    await prepare(database_url, inbox=1)
    received = batch(entry("w"), steps=[step("w")], received=[{"id": "w", "position": 1, "seq": 1}])
    async with line(database_url) as journal, observer(database_url) as look:
        await look.rows(
            "insert into messages (workflow_id, position, id, topic, payload, payload_hash, event_position, sent_at)"
            " values ('w', 1, gen_random_uuid(), 'word', '1', '', 0, now())"
        )
        times = []
        for again in (False, True):
            await rows.flush(journal, received, again=again)
            times += await look.rows("select received_at from messages where workflow_id = 'w'")
        assert times[0].received_at
        assert times[0] == times[1]


async def test_a_first_try_that_finds_its_place_taken_is_refused(database_url):
    """A position that two records claim is an error, and not a record that silently isn't there."""
    await prepare(database_url)
    async with line(database_url) as journal:
        await rows.flush(journal, batch(entry("w"), steps=[step("w")], events=[event("w")]))
        with pytest.raises(psycopg.errors.UniqueViolation):
            await rows.flush(journal, batch(entry("w"), events=[event("w")]))
        with pytest.raises(psycopg.errors.UniqueViolation):
            await rows.flush(journal, batch(entry("w"), steps=[step("w")]))


@pytest.mark.parametrize("again", [False, True])
async def test_a_start_is_somebody_elses_when_its_token_is_another(database_url, again):
    async with line(database_url) as journal:
        assert ("w", True) in await rows.flush(journal, batch(starts=[start("w", TOKEN)]), again=again)
        assert await rows.flush(journal, batch(starts=[start("w")]), again=again) == {}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("commits", [False, True])
async def test_a_start_that_waited_for_a_rival_is_first_only_if_the_rival_gave_up(database_url, again, commits):
    async with session(database_url) as rival, line(database_url) as journal:
        await rows.flush(rival, batch(starts=[start("w")]))
        async with under_way(rows.flush(journal, batch(starts=[start("w", TOKEN)]), again=again)) as starting:
            await rival.blocks("milepost test")
            await (rival.commit() if commits else rival.rollback())
            assert (("w", True) in await starting) == (not commits)


async def test_a_start_that_waited_for_its_own_first_try_finds_itself(database_url):
    async with session(database_url) as first, line(database_url) as journal:
        await rows.flush(first, batch(starts=[start("w", TOKEN)]))
        async with under_way(rows.flush(journal, batch(starts=[start("w", TOKEN)]), again=True)) as starting:
            await first.blocks("milepost test")
            await first.commit()
            assert ("w", True) in await starting


async def test_a_start_whose_id_is_held_by_somebody_does_not_wait(database_url):
    """Whoever asks again for what exists must not stall the flush that it happens to share."""
    await prepare(database_url)
    async with session(database_url) as holder, line(database_url) as journal:
        await holder.rows("update workflows set tags = '{}' where id = 'w'")
        assert await rows.flush(journal, batch(starts=[start("w")]), skip=True) == {}


async def test_a_park_that_is_sent_again_after_the_wake_is_refused(database_url):
    await prepare(database_url)
    park = batch(entry("w", fin="WAITING", seen=0), waits=[wait("w")])
    async with line(database_url) as journal, observer(database_url) as look:
        assert (await rows.flush(journal, park))["w", False].moved
        assert (await rows.flush(journal, park, again=True))["w", False].moved
        await workflows.wake(journal, ["w"])
        assert not (await rows.flush(journal, park, again=True))["w", False].mine
        (owned,) = await workflows.claim(journal, ExecutorId("me"), [("shop", "1")], 1)
        assert owned.generation == 2
        assert not (await rows.flush(journal, park, again=True))["w", False].mine
        assert await column(look, "w", "status") == "RUNNING"


async def test_an_end_that_is_sent_again_after_the_deletion_brings_nothing_back(database_url):
    await prepare(database_url)
    async with line(database_url) as journal, session(database_url) as deleter, observer(database_url) as look:
        given = batch(entry("w", fin="SUCCEEDED"), steps=[step("w")], events=[event("w")])
        await rows.flush(journal, given)
        await workflows.delete_if_ended(deleter.connection, ["w"])
        await deleter.commit()
        assert await rows.flush(journal, given, again=True) == {}
        assert sum((await counts(look, "w")).values()) == 0


async def test_starts_in_unlike_order_do_not_deadlock(database_url):
    async with sessions(database_url, 2) as (first, second):
        await rows.flush(first, batch(starts=[start("b")]))
        async with under_way(rows.flush(second, batch(starts=[start("c"), start("b"), start("a")]))) as starting:
            await first.blocks()
            # The second one goes by id: while it waits for b it holds a, and nothing that the first may want next.
            assert ("c", True) in await rows.flush(first, batch(starts=[start("c")]))
            await first.commit()
            assert {id for id, _ in await starting} == {"a"}
        await second.commit()
