"""Waiting without memory: what is parked, what wakes it, and what is told when the time is up."""

from app import Context
from tests.support.engine import Engine


async def test_a_parked_workflow_leaves_memory_and_goes_on_when_its_message_comes(forgetful: Engine):
    engine = forgetful

    async def before() -> str:
        engine.ran.append("before")
        return "before"

    @engine.workflow
    async def waits(ctx: Context) -> list[str]:
        return [await ctx.step(before), await ctx.receive("go")]

    id = await engine.begin(waits)
    await engine.forgotten(id)
    await engine.send(id, "go", "now")
    assert await engine.output(id) == ["before", "now"]
    assert engine.ran == ["before"]


async def test_a_crash_while_parked_loses_nothing(engine: Engine):
    @engine.workflow
    async def waits(ctx: Context) -> str:
        return str(await ctx.receive("go"))

    id = await engine.begin(waits)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "go", "now")
    assert await engine.output(id) == "now"
