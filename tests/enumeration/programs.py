"""What is run while two replicas meet, or something strikes."""

import asyncio
from collections import defaultdict
from typing import Any

from app import Context, EventNeverSet
from tests.support.engine import Engine

LEDGER = "create table ledger (workflow text, amount int)"

doors: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""What some steps wait for, by workflow."""


def define(engine: Engine) -> None:
    """Register all of them with an engine, and have it note which steps it runs."""
    note = engine.ran.append

    async def reserve(item: int) -> int:
        note("reserve")
        return item + 1

    async def debit(connection: Any, id: str, amount: int) -> int:
        note("debit")
        await connection.execute("insert into ledger values (%s, %s)", (id, amount))
        return amount

    async def ship() -> str:
        note("ship")
        return "shipped"

    async def come_in(id: str) -> None:
        note("come_in")
        await doors[id].wait()

    @engine.workflow
    async def order(ctx: Context) -> list[Any]:
        """Steps, a transaction, and an event after each."""
        reserved = await ctx.step(reserve, 1)
        await ctx.set_event("status", "reserved")
        paid = await ctx.transaction(debit, ctx.workflow_id, 5)
        await ctx.set_event("status", "paid")
        shipped = await ctx.step(ship)
        await ctx.set_event("status", shipped)
        return [reserved, paid, shipped]

    @engine.workflow
    async def guarded(ctx: Context) -> int:
        """Nothing before its door is opened."""
        await ctx.step(come_in, ctx.workflow_id)
        reserved = await ctx.step(reserve, 1)
        await ctx.set_event("status", "reserved")
        return reserved

    @engine.workflow
    async def receiver(ctx: Context) -> Any:
        await ctx.step(come_in, ctx.workflow_id)
        answer = await ctx.receive("answer", timeout=3600)
        await ctx.set_event("status", answer)
        return answer

    @engine.workflow
    async def watcher(ctx: Context, of: str) -> list[Any]:
        """Waits for another one's event, and then for its end."""
        status = await ctx.get_event(of, "status")
        await ctx.set_event("seen", status)
        return [status]

    @engine.workflow
    async def mourner(ctx: Context, of: str) -> str:
        """Waits for an event that another one ends without."""
        try:
            await ctx.get_event(of, "never")
        except EventNeverSet:
            return "never"
        return "set"

    @engine.workflow
    async def parent(ctx: Context) -> str:
        await ctx.step(come_in, ctx.workflow_id)
        child = await ctx.start(sleeper, id=f"{ctx.workflow_id}-child")
        await ctx.sleep(3600)
        return child.id

    @engine.workflow
    async def sleeper(ctx: Context) -> None:
        await ctx.sleep(3600)

    @engine.workflow
    async def grown(ctx: Context, number: int) -> int:
        """A child that waits for somebody outside."""
        await ctx.set_event("number", number)
        more = await ctx.receive("more", timeout=3600)
        return number + more

    @engine.workflow
    async def journey(ctx: Context) -> list[Any]:
        """All that a workflow can do, one after the other."""
        reserved = await ctx.step(reserve, 1)
        await ctx.set_event("status", "reserved")
        paid = await ctx.transaction(debit, ctx.workflow_id, 5)
        await ctx.set_event("status", "paid")
        answer = await ctx.receive("answer", timeout=3600)
        child = await ctx.start(grown, 20, id=f"{ctx.workflow_id}-child")
        await ctx.set_event("child", child.id)
        born = await child.result()
        await ctx.sleep(0.03)
        await ctx.set_event("status", "done")
        return [reserved, paid, answer, born]

    @engine.workflow
    async def errand(ctx: Context) -> Any:
        """Has a child, and waits for a word."""
        await ctx.step(reserve, 1)
        await ctx.start(sleeper, id=f"{ctx.workflow_id}-child")
        await ctx.set_event("status", "sent")
        word = await ctx.receive("word", timeout=3600)
        await ctx.set_event("status", word)
        return word
