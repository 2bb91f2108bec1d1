"""The workflow that the campaign runs: it interprets a program, a list of commands, and tells all that came of them.

`MILEPOST_WORKFLOWS=tests.chaos.workflows` has a replica register it. Each command has a label of its own in its
program; what it brings is published as `[label, result]` and is a part of the output. A step's result holds a token
that no other execution has, and each execution leaves a line in the file that CHAOS_LOG names. So what was published,
what was recorded, what was returned and what really happened can be held against each other.
"""

import asyncio
import os
import random
import threading
from typing import Any
from uuid import uuid4

import psycopg

from app import ChildFailed, Context, Fatal, Retry, StepFailed, TimedOut, step, workflow
from tests.support.gates import note

TABLES = """
create table ledger (workflow_id text not null, label text not null, counter int not null, token text not null);
create table counters (number int primary key, value int not null);
insert into counters select n, 0 from generate_series(0, 999) n;
"""
KEYS = ("red", "green", "blue")
"""Under which keys results are published, one after the other."""
POISONED = 86
"""The exit code of a process that a workflow has ended."""

Result = Any
Command = list[Any]


def execution(ctx: Context, label: str) -> list[str]:
    token = uuid4().hex[:12]
    note(os.environ["CHAOS_LOG"], f"{ctx.workflow_id} {label} {os.getpid()} {token}")
    return [label, token]


async def work(ctx: Context, label: str, lasts: float) -> list[str]:
    done = execution(ctx, label)
    await asyncio.sleep(lasts)
    return done


def work_in_thread(ctx: Context, label: str, lasts: float) -> list[str]:
    done = execution(ctx, label)
    threading.Event().wait(lasts)
    return done


@step(retry=Retry(attempts=50, delay=0.02, max_delay=0.1))
async def work_at_last(ctx: Context, label: str) -> list[str]:
    if random.random() < 0.5:
        raise ConnectionError("not yet")
    return execution(ctx, label)


async def refuse(label: str) -> None:
    raise Fatal(label)


async def stream(ctx: Context, label: str, count: int) -> list[str]:
    done = execution(ctx, label)
    for number in range(count):
        await ctx.set_event("stream", [label, number])
        await asyncio.sleep(0.02)
    return done


# To cancel a statement is somebody's decision, and an author's code is told of it.
CANCELLED = Retry(attempts=50, delay=0.02, max_delay=0.1, on=(psycopg.errors.QueryCanceled,))


@step(retry=CANCELLED)
async def write(connection: Any, ctx: Context, label: str, counter: int) -> list[str]:
    token = uuid4().hex[:12]
    await connection.execute("insert into ledger values (%s, %s, %s, %s)", [ctx.workflow_id, label, counter, token])
    await connection.execute("update counters set value = value + 1 where number = %s", [counter])
    return [label, token]


@step(retry=CANCELLED)
async def write_and_refuse(connection: Any, ctx: Context, label: str, counter: int) -> None:
    await write(connection, ctx, label, counter)
    raise Fatal(label)


@step(retry=Retry(attempts=1000, delay=0.1, max_delay=0.5))
async def cancel_itself(ctx: Context, label: str) -> list[str]:
    """Ask any replica to cancel the very workflow that this is a step of."""
    url = random.choice(os.environ["CHAOS_URLS"].split(","))
    (await ctx.http.post(f"{url}/workflows/{ctx.workflow_id}/cancel", timeout=5)).raise_for_status()
    return [label, ""]


async def end_the_process(ctx: Context, label: str) -> None:
    execution(ctx, label)
    os._exit(POISONED)


class Interpreter:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.told: list[list[Any]] = []

    async def run(self, commands: list[Command]) -> list[list[Any]]:
        for verb, label, *given in commands:
            await self.tell(label, await getattr(self, f"do_{verb}")(label, *given))
        return self.told

    async def tell(self, label: str, result: Result) -> None:
        await self._ctx.set_event(KEYS[len(self.told) % len(KEYS)], [label, result])
        self.told.append([label, result])

    async def do_event(self, label: str, value: Any) -> Result:
        return value

    async def do_mark(self, label: str, value: Any) -> Result:
        """Under a key of its own, so that it is the only one for ever."""
        self._ctx.set_event("mark", value)

    async def do_step(self, label: str, lasts: float) -> Result:
        return await self._ctx.step(work, self._ctx, label, lasts)

    async def do_thread(self, label: str, lasts: float) -> Result:
        return await self._ctx.step(work_in_thread, self._ctx, label, lasts)

    async def do_flaky(self, label: str) -> Result:
        return await self._ctx.step(work_at_last, self._ctx, label)

    async def do_stream(self, label: str, count: int) -> Result:
        return await self._ctx.step(stream, self._ctx, label, count)

    async def do_refuse(self, label: str) -> Result:
        try:
            await self._ctx.step(refuse, label)
        except StepFailed as failure:
            return failure.message

    async def do_transaction(self, label: str, counter: int) -> Result:
        return await self._ctx.transaction(write, self._ctx, label, counter)

    async def do_rollback(self, label: str, counter: int) -> Result:
        try:
            await self._ctx.transaction(write_and_refuse, self._ctx, label, counter)
        except StepFailed as failure:
            return failure.message

    async def do_sleep(self, label: str, seconds: float) -> Result:
        await self._ctx.sleep(seconds)

    async def do_receive(self, label: str, topic: str) -> Result:
        return await self._ctx.receive(topic)

    async def do_collect(self, label: str, topic: str, count: int) -> Result:
        return sorted([await self._ctx.receive(topic) for _ in range(count)])

    async def do_silence(self, label: str, timeout: float) -> Result:
        try:
            await self._ctx.receive("nobody speaks", timeout=timeout)
        except TimedOut:
            return "silence"

    async def do_echo(self, label: str, payload: Any) -> Result:
        await self._ctx.send(self._ctx.workflow_id, label, payload)
        return await self._ctx.receive(label)

    async def do_send(self, label: str, target: str, topic: str, payload: Any) -> Result:
        await self._ctx.send(target, topic, payload)

    async def do_callback(self, label: str, topic: str) -> Result:
        self._ctx.set_event("callback", await self._ctx.callback(topic))
        return await self._ctx.receive(topic)

    async def do_child(self, label: str, commands: list[Command]) -> Result:
        child = await self._ctx.start(perform, commands, id=f"{self._ctx.workflow_id}.{label}")
        mark = await child.get_event("mark")
        try:
            return [mark, await child.result()]
        except ChildFailed as failure:
            return [mark, failure.status]

    async def do_gather(self, label: str, branches: list[tuple[str, float]]) -> Result:
        return await asyncio.gather(*(self._ctx.step(work, self._ctx, branch, lasts) for branch, lasts in branches))

    async def do_race(self, label: str, racers: list[tuple[str, float]]) -> Result:
        running = [asyncio.ensure_future(self._ctx.step(work, self._ctx, racer, lasts)) for racer, lasts in racers]
        done, others = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for loser in others:
            loser.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        return [racer.result() for racer in running if racer in done]

    async def do_suicide(self, label: str) -> Result:
        return await self._ctx.step(cancel_itself, self._ctx, label)

    async def do_poison(self, label: str) -> Result:
        await self._ctx.step(end_the_process, self._ctx, label)

    async def do_fail(self, label: str) -> Result:
        raise RuntimeError(label)


@workflow(name="chaos")
async def perform(ctx: Context, commands: list[Command]) -> list[list[Any]]:
    return await Interpreter(ctx).run(commands)


@workflow(name="chaos_cleanup")
async def clean_up(ctx: Context, aborted: dict[str, Any]) -> list[str]:
    return await ctx.transaction(write, ctx, "cleanup", 0)


@workflow(name="chaos_guarded", on_abort=clean_up)
async def perform_guarded(ctx: Context, commands: list[Command]) -> list[list[Any]]:
    return await Interpreter(ctx).run(commands)


@workflow(name="chaos_poison", max_recoveries=2)
async def perform_poison(ctx: Context, commands: list[Command]) -> list[list[Any]]:
    return await Interpreter(ctx).run(commands)
