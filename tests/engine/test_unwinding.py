"""Leaving memory: what a workflow's code gets to do when it is suspended, cancelled, or taken over."""

import asyncio
import gc
from typing import Any

import pytest

from app import Context
from app.engine import points
from app.errors import Suspended
from tests.support.engine import Engine
from tests.support.waiting import eventually


async def test_code_that_catches_exceptions_does_not_catch_its_suspension(forgetful: Engine):
    engine = forgetful
    caught: list[str] = []

    @engine.workflow
    async def catches(ctx: Context) -> str:
        try:
            return str(await ctx.receive("go"))
        except Exception as error:
            caught.append(repr(error))
            raise

    id = await engine.begin(catches)
    await engine.forgotten(id)
    await engine.send(id, "go", "now")
    assert await engine.output(id) == "now"
    assert caught == []


async def test_finally_runs_at_a_suspension_and_its_durable_calls_do_nothing(forgetful: Engine):
    engine = forgetful
    refused: list[str] = []

    async def release() -> None:
        engine.ran.append("release")

    @engine.workflow
    async def holds(ctx: Context) -> str:
        try:
            return str(await ctx.receive("go"))
        finally:
            for call in (lambda: ctx.step(release), lambda: ctx.set_event("key", 1)):
                try:
                    await call()
                except BaseException as error:
                    refused.append(type(error).__name__)

    id = await engine.begin(holds)
    await engine.forgotten(id)
    await eventually(lambda: refused == ["Suspended", "Suspended"])
    assert (engine.ran, await engine.events(id), await engine.steps(id)) == ([], [], [])
    await engine.send(id, "go", "now")
    assert await engine.output(id) == "now"
    assert (engine.ran, await engine.events(id)) == (["release"], [("key", 1)])
    assert len(refused) == 2


async def test_finally_does_not_run_while_the_code_stays_in_memory(engine: Engine):
    left: list[str] = []

    @engine.workflow
    async def holds(ctx: Context) -> None:
        try:
            await ctx.receive("go")
        finally:
            left.append("left")

    id = await engine.begin(holds)
    await engine.becomes(id, "WAITING")
    assert left == []
    await engine.send(id, "go")
    await engine.output(id)
    assert left == ["left"]


@pytest.mark.parametrize("what", ["returns", "raises"])
async def test_code_that_catches_everything_does_not_end_its_workflow(forgetful: Engine, what: str):
    engine = forgetful

    @engine.workflow
    async def stubborn(ctx: Context) -> str:
        try:
            return str(await ctx.receive("go"))
        except BaseException as error:
            if isinstance(error, Suspended) and what == "returns":
                return "never mind"
            raise ValueError("out of order") from error

    id = await engine.begin(stubborn)
    await engine.forgotten(id)
    assert await engine.status(id) == "WAITING"
    await engine.send(id, "go", "now")
    assert await engine.output(id) == "now"


async def test_siblings_leave_together(forgetful: Engine):
    engine = forgetful
    left: list[str] = []

    @engine.workflow
    async def family(ctx: Context) -> list[str]:
        async def member(topic: str) -> str:
            try:
                return str(await ctx.receive(topic))
            finally:
                left.append(topic)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(member(topic)) for topic in "ab"]
        return [task.result() for task in tasks]

    id = await engine.begin(family)
    await engine.forgotten(id)
    await eventually(lambda: sorted(left) == ["a", "b"])
    await engine.send(id, "b", "B")
    await engine.send(id, "a", "A")
    assert await engine.output(id) == ["A", "B"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["calls", "sets events", "takes turns"])
async def test_code_that_never_leaves_is_abandoned(forgetful: Engine, how: str):
    """And does no harm when it is collected."""
    engine = forgetful
    awake = False

    @engine.workflow
    async def clings(ctx: Context) -> str:
        while not awake:
            try:
                await ctx.receive("go")
            except BaseException:
                while not awake:
                    try:
                        if how == "calls":
                            await ctx.sleep(1)
                        elif how == "sets events":
                            await ctx.set_event("key", 1)
                        else:
                            await asyncio.sleep(0)
                    except BaseException:
                        continue
        return "left"

    @engine.workflow
    async def other(ctx: Context) -> str:
        return "other"

    id = await engine.begin(clings)
    await engine.forgotten(id)
    gc.collect()
    assert await engine.run(other) == "other"
    assert await engine.events(id) == []
    awake = True
    await engine.send(id, "go")
    assert await engine.output(id) == "left"


async def test_a_step_that_runs_when_its_workflow_is_cancelled_ends_and_is_not_recorded(engine: Engine):
    go_on = asyncio.Event()

    async def slow(ctx: Context) -> None:
        engine.ran.append("begun")
        await go_on.wait()
        try:
            await ctx.set_event("progress", 100)
        finally:
            engine.ran.append("ended")

    async def compensate() -> None:
        engine.ran.append("compensate")

    @engine.workflow
    async def program(ctx: Context) -> None:
        try:
            await ctx.step(slow, ctx)
        except Exception:
            engine.ran.append("caught")
        finally:
            await ctx.step(compensate)

    id = await engine.begin(program)
    await engine.noted("begun")
    await engine.cancel(id)
    await eventually(lambda: not engine.holds(id))
    go_on.set()
    await engine.noted("ended")
    assert engine.ran == ["begun", "ended"]
    assert (await engine.steps(id), await engine.events(id)) == ([], [])


async def test_an_event_that_was_set_before_a_cancel_is_there_or_not_but_none_after_it(engine: Engine):
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(point: str) -> None:
        if point == "journal.before_flush" and engine.ran:
            held.set()
            await go_on.wait()

    async def work() -> None:
        engine.ran.append("work")

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.step(work)
        await ctx.set_event("status", "too late")
        await ctx.step(work)

    points.install(hold)
    id = await engine.begin(program)
    await eventually(held.is_set)
    await engine.cancel(id)
    points.install(None)
    go_on.set()
    await eventually(lambda: not engine.holds(id))
    assert (await engine.events(id), await engine.steps(id), engine.ran) == ([], [], ["work"])
    assert await engine.status(id) == "CANCELLED"


async def test_the_code_of_a_cancelled_workflow_gets_no_further(engine: Engine):
    reached: list[Any] = []

    @engine.workflow
    async def program(ctx: Context) -> None:
        try:
            await ctx.receive("go")
        except BaseException as error:
            reached.append(type(error).__name__)
            try:
                await ctx.sleep(0)
            except BaseException as again:
                reached.append(type(again).__name__)

    id = await engine.begin(program)
    await eventually(lambda: engine.holds(id))
    await engine.cancel(id)
    await eventually(lambda: reached == ["Aborted", "Aborted"])
