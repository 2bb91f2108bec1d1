"""A cancel meets the end of its workflow: exactly one of them is true, and everybody is told which."""

from collections.abc import AsyncIterator

import pytest

from app.errors import WorkflowFinished
from app.model import WorkflowId
from tests.support import rows
from tests.support.engine import Engine
from tests.support.points import Gate, at
from tests.support.rows import batch, entry, event, step
from tests.support.sessions import Session, line, observer, session, under_way

W = WorkflowId("w")
LAST = batch(entry(W, fin="SUCCEEDED", output=7), steps=[step(W)], events=[event(W)])


@pytest.fixture
async def look(engine: Engine, database_url: str) -> AsyncIterator[Session]:
    """W runs elsewhere, and is about to end."""
    async with observer(database_url) as look:
        await rows.add_workflow(look, W, executor_id="elsewhere")
        yield look


async def test_of_a_cancel_and_an_end_exactly_one_is_true(engine: Engine, database_url, look: Session):
    """The end comes first: the cancel waits for it, and is refused."""
    async with session(database_url) as journal:
        await rows.flush(journal, LAST, executor="elsewhere")
        async with under_way(engine.cancel(W)) as cancelling:
            await journal.blocks()
            await journal.commit()
            with pytest.raises(WorkflowFinished) as refusal:
                await cancelling
    assert refusal.value.extra["workflow_status"] == "SUCCEEDED"
    assert await rows.column(look, W, "status || output::text") == "SUCCEEDED7"


async def test_of_an_end_and_a_cancel_exactly_one_is_true(engine: Engine, database_url, look: Session):
    """The cancel comes first: the end waits for it, and nothing of it is written."""
    committing = Gate()
    async with line(database_url) as journal:
        with at(cancel__before_commit=committing):
            async with under_way(engine.cancel(W)) as cancelling:
                await committing.reached()
                async with under_way(rows.flush(journal, LAST, executor="elsewhere")) as flush:
                    await waits(look, "milepost test")
                    committing.open()
                    assert not (await flush)[W, False].mine
                assert (await cancelling).status == "CANCELLED"
    assert await rows.column(look, W, "status") == "CANCELLED"
    assert await rows.counts(look, W) == {**dict.fromkeys(await rows.counts(look, W), 0), "workflows": 1}
    assert (await engine.cancel(W)).status == "CANCELLED", "to cancel again is the same"


async def waits(look: Session, name: str) -> None:
    """Wait until PostgreSQL reports that somebody of this application name is blocked."""
    from tests.support.waiting import eventually

    async def blocked() -> bool:
        query = (
            "select pid from pg_stat_activity"
            " where application_name = %(name)s and cardinality(pg_blocking_pids(pid)) > 0"
            " and datname = current_database()"
        )
        return bool(await look.rows(query, {"name": name}))

    await eventually(blocked, message=f"{name} is not blocked")
