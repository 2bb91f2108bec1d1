"""Which changes of a row leave its indexes alone, counted by PostgreSQL: only of these is it said."""

import pytest

from tests.support import rows
from tests.support.sessions import observer, session

COUNT = (
    "select pg_stat_get_xact_tuples_updated(%(table)s::regclass) as updated,"
    " pg_stat_get_xact_tuples_hot_updated(%(table)s::regclass) as hot"
)
LIGHT = {
    "a message arrives at one that runs": "update workflows set inbox = inbox + 1 where id = any (%(ids)s)",
    "somebody waits for one": "update workflows set watched = true where id = any (%(ids)s)",
    "one is taken up again": "update workflows set attempts = attempts + 1, barren = 0 where id = any (%(ids)s)",
}
HEAVY = {
    "one ends": "update workflows set status = 'SUCCEEDED', completed_at = now() where id = any (%(ids)s)",
    "one parks": "update workflows set status = 'WAITING', wake_at = now() where id = any (%(ids)s)",
}
IDS = [f"w{n}" for n in range(20)]


async def counted(url: str, statement: str) -> tuple[int, int]:
    async with observer(url) as setup:
        for id in IDS:
            await rows.add_workflow(setup, id)
    async with session(url) as change:
        await change.rows(statement, {"ids": IDS})
        (count,) = await change.rows(COUNT, {"table": "workflows"})
        return count.updated, count.hot


@pytest.mark.parametrize("what", LIGHT)
async def test_a_change_of_what_no_index_holds_leaves_the_indexes_alone(database_url, what):
    updated, hot = await counted(database_url, LIGHT[what])
    assert updated == len(IDS)
    assert hot > 0, what


@pytest.mark.parametrize("what", HEAVY)
async def test_a_change_of_status_does_not(database_url, what):
    """Partial indexes name the status, so that what is due, or runs, is found at once: this is their price."""
    assert await counted(database_url, HEAVY[what]) == (len(IDS), 0)


async def test_a_heartbeat_leaves_the_indexes_alone(database_url):
    async with session(database_url) as change:
        await rows.add_executor(change, "me")
        await change.commit()
        for _ in range(10):
            await change.rows("update executors set heartbeat_at = now(), hint = hint + 1 where id = 'me'")
        (count,) = await change.rows(COUNT, {"table": "executors"})
        assert (count.updated, count.hot) == (10, 10)
