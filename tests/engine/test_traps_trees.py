"""Ids and families: children that are just being born, and ids that come free at the wrong moment."""

import pytest

from app import Context
from app.engine.commands import Start
from app.model import WorkflowId
from tests.support import rows
from tests.support.engine import Engine, text
from tests.support.points import Gate, at
from tests.support.rows import batch, entry, start
from tests.support.sessions import observer, session, under_way

W = WorkflowId("w")


@pytest.mark.parametrize("child", ["child", "a child before its parent"])
async def test_a_cancel_reaches_the_child_that_was_being_started(engine: Engine, database_url, child):
    """It is not there yet when the cancel begins, and runs when the cancel has got the row of its parent."""
    async with observer(database_url) as look, session(database_url) as journal:
        await rows.add_workflow(look, W, executor_id="elsewhere")
        flush = batch(entry(W), starts=[start(child, parent_id=W)])
        assert (child, True) in await rows.flush(journal, flush, executor="elsewhere")
        async with under_way(engine.runtime.commands.cancel(W)) as cancelling:
            await journal.blocks()
            await journal.commit()
            assert (await cancelling).status == "CANCELLED"
        assert await rows.column(look, child, "status") == "CANCELLED"


async def test_a_start_whose_rival_was_deleted_before_it_was_read_is_made_after_all(engine: Engine):
    """The id was taken, and nobody has it any more: that is no conflict, and not an unknown workflow."""

    @engine.workflow
    async def echo(ctx: Context, n: int) -> int:
        return n

    assert await engine.run(echo, 1, id=W) == 1
    reading = Gate()
    with at(lookup__before_get=reading):
        async with under_way(engine.runtime.commands.start(Start("echo", text(2), W))) as starting:
            await reading.reached()
            await engine.execute("delete from workflows where id = %s", W)
            reading.open()
            assert (await starting).created
    assert await engine.output(W) == 2


async def test_a_child_whose_rival_was_deleted_before_it_was_read_is_started_after_all(engine: Engine):
    @engine.workflow
    async def echo(ctx: Context, n: int) -> int:
        return n

    @engine.workflow
    async def parent(ctx: Context) -> int:
        return int(await (await ctx.start(echo, 2, id="child")).result())

    assert await engine.run(echo, 1, id="child") == 1
    reading = Gate()
    with at(lookup__before_get=reading):
        id = await engine.begin(parent)
        await reading.reached()
        await engine.execute("delete from workflows where id = 'child'")
        reading.open()
        assert await engine.output(id) == 2
