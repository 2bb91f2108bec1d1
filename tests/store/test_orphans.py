"""No foreign key holds them, and still no row is left without its workflow, whatever meets whatever."""

import asyncio
import random

import pytest

from app import Context
from app.errors import MilepostError, WorkflowActive, WorkflowFinished, WorkflowIdConflict, WorkflowNotFound
from app.model import WorkflowId
from tests.support.engine import Engine, running

TABLES = ("steps", "events", "messages", "waits", "callbacks")
IDS = [f"w{n}" for n in range(6)]


async def orphans(engine: Engine) -> dict[str, int]:
    return {
        table: await engine.one(
            f"select count(*) from {table} t where not exists (select from workflows w where w.id = t.workflow_id)"
        )
        for table in TABLES
    }


async def meddle(engine: Engine, seed: int) -> int:
    """Start, send to, cancel, resume and delete the same few workflows in a random order; how much was done."""
    chance, done = random.Random(seed), 0
    for _ in range(60):
        id, commands = WorkflowId(chance.choice(IDS)), engine.runtime.commands
        act = chance.choice(["start", "start", "send", "send", "cancel", "resume", "delete", "delete"])
        try:
            if act == "start":
                await engine.begin("shop", chance.choice(IDS), id=id)
            elif act == "send":
                await engine.send(id, "word", chance.random())
            elif act == "cancel":
                await engine.cancel(id)
            elif act == "resume":
                await engine.resume(id)
            else:
                await commands.delete(id)
            done += 1
        except (WorkflowNotFound, WorkflowFinished, WorkflowActive, WorkflowIdConflict):
            continue
    return done


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_left_below_a_workflow_that_is_gone(database_url, seed):
    async with running(database_url, linger=0.01, cache=2) as engine:

        @engine.workflow
        async def shop(ctx: Context, other: str) -> None:
            await ctx.set_event("status", "open")
            await ctx.callback("paid")

            async def tell() -> None:
                try:
                    await ctx.send(other, "word", 1)
                except MilepostError:
                    await ctx.set_event("status", "nobody there")

            await asyncio.gather(tell(), ctx.step(lambda: 1), ctx.receive("word", timeout=3600))
            await ctx.get_event(other, "status", timeout=0.01) if other > ctx.workflow_id else None
            await ctx.start("sub", id=f"{ctx.workflow_id}-{ctx.uuid()}")

        @engine.workflow
        async def sub(ctx: Context) -> None:
            await ctx.set_event("status", "sub")

        done = await asyncio.gather(*(meddle(engine, seed * 10 + n) for n in range(6)))
        assert sum(done) > 100
        assert await orphans(engine) == dict.fromkeys(TABLES, 0)
        gaps = (
            "select workflow_id from events group by workflow_id having max(position) <> count(*)"
            " union all select workflow_id from messages group by workflow_id having max(position) <> count(*)"
        )
        assert await engine.rows(gaps) == []
        unheard = "select id from workflows w where inbox <> (select count(*) from messages where workflow_id = w.id)"
        assert await engine.rows(unheard) == []
