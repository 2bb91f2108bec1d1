"""Workflows that are run through crashes, one for each way in which a workflow spends its time.

Every execution of a step leaves a line in a file: the workflow, the step's label, the process, and a token
that is the step's result. So it can be held against the records which executions there were. And every
workflow returns all that it has published, in order, so that its log can be held against that.

`MILEPOST_WORKFLOWS=tests.support.trials` has a service register them; `transactions` needs the table EFFECTS.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from app import Context, Retry, step, workflow
from tests.support.gates import note, notes

EFFECTS = "create table effects (workflow_id text not null, label text not null, token text not null)"

Said = list[list[Any]]


@dataclass
class Plan:
    log: str
    pace: float
    """Seconds that a step lasts."""


class Voice:
    """Publishes, and remembers what."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.said: Said = []

    async def say(self, key: str, value: Any) -> None:
        self.said.append([key, value])
        await self._ctx.set_event(key, value)


def execution(ctx: Context, log: str, label: str) -> str:
    token = uuid4().hex[:12]
    note(log, f"{ctx.workflow_id} {label} {os.getpid()} {token}")
    return token


async def work(ctx: Context, log: str, label: str, lasts: float) -> str:
    token = execution(ctx, log, label)
    await asyncio.sleep(lasts)
    return token


def work_in_thread(ctx: Context, log: str, label: str, lasts: float) -> str:
    token = execution(ctx, log, label)
    time.sleep(lasts)
    return token


async def write(connection: Any, ctx: Context, log: str, label: str) -> str:
    token = execution(ctx, log, label)
    await connection.execute("insert into effects values (%s, %s, %s)", [ctx.workflow_id, label, token])
    return token


@step(retry=Retry(attempts=20, delay=1.5, backoff=1))
async def succeed_at_the_third_try(ctx: Context, log: str, label: str) -> str:
    token = execution(ctx, log, label)
    if sum(line.startswith(f"{ctx.workflow_id} {label} ") for line in notes(log)) < 3:
        raise ConnectionError("not yet")
    return token


async def stream(ctx: Context, log: str, label: str, lasts: float) -> str:
    token = execution(ctx, log, label)
    for number in range(1, 11):
        await ctx.set_event("progress", number)
        await asyncio.sleep(lasts / 5)
    return token


@workflow
async def steps(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)
    for number in range(1, 7):
        await voice.say("done", [number, await ctx.step(work, ctx, plan.log, f"s{number}", plan.pace)])
        await voice.say("count", number)
    return voice.said


@workflow
async def threads(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)
    for number in range(1, 5):
        await voice.say("done", [number, await ctx.step(work_in_thread, ctx, plan.log, f"t{number}", plan.pace)])
    return voice.said


@workflow
async def transactions(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)
    for number in range(1, 5):
        await voice.say("done", [number, await ctx.transaction(write, ctx, plan.log, f"x{number}")])
        await ctx.step(work, ctx, plan.log, f"s{number}", plan.pace)
    return voice.said


@workflow
async def sleeps(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)
    for number in range(1, 4):
        await ctx.sleep(4 * plan.pace)
        await voice.say("awake", [number, await ctx.step(work, ctx, plan.log, f"s{number}", 0)])
    return voice.said


@workflow
async def receives(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)
    for number in range(1, 4):
        word = await ctx.receive("word")
        await voice.say("heard", [word, await ctx.step(work, ctx, plan.log, f"s{number}", plan.pace)])
    return voice.said


@workflow
async def parents(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)
    child = await ctx.start(steps, {"log": plan.log, "pace": plan.pace}, id=f"{ctx.workflow_id}.child")
    await voice.say("first", await child.get_event("done"))
    await voice.say("child", await child.result())
    return voice.said


@workflow
async def retries(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)
    await voice.say("done", await ctx.step(succeed_at_the_third_try, ctx, plan.log, "r"))
    return voice.said


@workflow
async def streams(ctx: Context, plan: Plan) -> Said:
    """What the step publishes is not in what this returns: it comes again when the step is run again."""
    voice = Voice(ctx)
    await voice.say("begun", True)
    await voice.say("done", await ctx.step(stream, ctx, plan.log, "p", plan.pace))
    return voice.said


@workflow
async def gathers(ctx: Context, plan: Plan) -> Said:
    voice = Voice(ctx)

    async def branch(number: int) -> None:
        for part in "ab":
            label = f"g{number}{part}"
            await voice.say(label, await ctx.step(work, ctx, plan.log, label, plan.pace * ctx.random.random()))

    await asyncio.gather(*(branch(number) for number in range(4)))
    return voice.said


KINDS = (steps, threads, transactions, sleeps, receives, parents, retries, streams, gathers)
NAMES = [kind.__name__ for kind in KINDS]
