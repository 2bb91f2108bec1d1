"""Workflows that do much at once; `MILEPOST_WORKFLOWS=tests.stress.floods` has a service register them."""

import asyncio
import re
import time
from collections import Counter
from typing import Any

from app import Context, workflow


async def nothing(number: int) -> int:
    return number


@workflow
async def events(ctx: Context, given: dict[str, int]) -> int:
    """Set `count` events of `size` characters, as fast as it may."""
    for number in range(given["count"]):
        await ctx.set_event("n", f"{number} " + "x" * given["size"])
    return given["count"]


@workflow
async def streams(ctx: Context, given: dict[str, int]) -> int:
    """The same from inside a step that is a plain function."""
    return await ctx.step(stream, ctx, given)


def stream(ctx: Context, given: dict[str, int]) -> int:
    for number in range(given["count"]):
        ctx.set_event("n", f"{number} " + "x" * given["size"])
    return given["count"]


@workflow
async def steps(ctx: Context, count: int) -> int:
    """So many steps at once."""
    return sum(await asyncio.gather(*(ctx.step(nothing, number) for number in range(count))))


@workflow
async def sends(ctx: Context, given: dict[str, Any]) -> int:
    """So many messages at once."""
    await asyncio.gather(*(ctx.send(given["to"], "word", number) for number in range(given["count"])))
    return int(given["count"])


@workflow
async def child(ctx: Context, number: int) -> int:
    return number


@workflow
async def children(ctx: Context, given: dict[str, int]) -> int:
    """So many children at once, with an input of `size` characters."""
    started = await asyncio.gather(*(ctx.start(fed, "x" * given["size"]) for _ in range(given["count"])))
    return len(started)


@workflow
async def fed(ctx: Context, food: str) -> None:
    """Take what is given."""


@workflow
async def receives(ctx: Context, count: int) -> int:
    """So many waits at once."""
    words = await asyncio.gather(*(ctx.receive(f"word {number}", timeout=3600) for number in range(count)))
    return len(words)


@workflow
async def blocks(ctx: Context, seconds: float) -> float:
    """Stop the whole process for a while."""
    return await ctx.step(block, seconds)


async def block(seconds: float) -> float:
    time.sleep(seconds)  # noqa: ASYNC251 - what it must not do
    return seconds


@workflow
async def families(ctx: Context, count: int) -> int:
    """So many children at once, and what each of them returns."""

    async def one(number: int) -> Any:
        return await (await ctx.start(child, number)).result()

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


@workflow
async def census(ctx: Context) -> dict[str, int]:
    """How many tasks of each name the process has."""
    return await ctx.step(count_tasks)


async def count_tasks() -> dict[str, int]:
    names = [re.sub(r"[ -].*", "", task.get_name()) for task in asyncio.all_tasks()]
    return dict(Counter(names))
