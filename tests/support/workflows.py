"""Workflows for tests, told by their input what to do.

`MILEPOST_WORKFLOWS=tests.support.workflows` has a service register them.
"""

from typing import Any

from app import Context, workflow


@workflow(events={"count": int})
async def scripted(ctx: Context, script: list[list[Any]]) -> Any:
    """Do one line after the other: ["set", key, value], ["receive", topic], ["sleep", seconds], ["step", value],
    ["callback", topic, key], ["child", id, script], ["fail", message], ["return", value]."""
    received: Any = None
    for verb, *given in script:
        if verb == "set":
            await ctx.set_event(*given)
        elif verb == "receive":
            received = await ctx.receive(*given)
        elif verb == "sleep":
            await ctx.sleep(*given)
        elif verb == "step":
            received = await ctx.step(echoed, *given)
        elif verb == "callback":
            await ctx.set_event(given[1], await ctx.callback(given[0]))
        elif verb == "child":
            await ctx.start(scripted, given[1], id=given[0])
        elif verb == "fail":
            raise RuntimeError(*given)
        elif verb == "return":
            return given[0]
    return received


async def echoed(value: Any) -> Any:
    return value


@workflow
async def echo(ctx: Context, value: Any) -> Any:
    """Return what it was given."""
    return value


@workflow
async def mute(ctx: Context) -> None:
    """Take nothing, do nothing."""


@workflow
async def count(ctx: Context, number: int) -> int:
    """Take a number."""
    return number
