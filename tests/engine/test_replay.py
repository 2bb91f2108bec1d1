"""What comes out of a crash is what went in: whatever order things came out in, live."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app import Context, NonDeterministicWorkflow
from app.engine import points
from tests.support.engine import Engine
from tests.support.faults import Fault, kills, nothing
from tests.support.faults import Moment as At
from tests.support.waiting import eventually

Program = Callable[[Context], Awaitable[Any]]


class Order:
    """Has steps come out in an order of the test's choosing, in each workflow from where its records end."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._turns: dict[tuple[str, int], asyncio.Event] = {}

    async def turn(self, id: str, name: str) -> str:
        place = self._names.index(name)
        recorded = int(id.removeprefix("after-")) if id.startswith("after-") else 0
        if place > recorded:
            async with asyncio.timeout(5):
                await self._turn(id, place).wait()
        # The next one's result is to come in after this one's.
        asyncio.get_running_loop().call_later(0.002, self._turn(id, place + 1).set)
        return name

    def _turn(self, id: str, place: int) -> asyncio.Event:
        return self._turns.setdefault((id, place), asyncio.Event())


async def prefixes(engine: Engine, program: Program) -> Any:
    """Run a program to its end, then recover it from each beginning of its records; the same comes out."""
    engine.workflow(name="program")(program)
    once = await engine.run("program", id="once")
    steps = await engine.steps("once")
    sets = await engine.events("once")
    for done in range(len(steps) + 1):
        id = f"after-{done}"
        await engine.execute("insert into executors select 'gone', 'h', 1, 'v', 1, false, now(), now(), 0"
                             " where not exists (select from executors where id = 'gone')")  # fmt: skip
        await engine.execute(
            "insert into workflows (id, name, version, status, input_hash, tags, executor_id, generation, start_token,"
            " created_at, started_at, updated_at)"
            " select %s, name, version, 'RUNNING', input_hash, tags, 'gone', generation, start_token,"
            " created_at, started_at, updated_at from workflows where id = 'once'",
            id,
        )
        await engine.execute(
            "insert into steps select %s, seq, done, name, kind, digest, output, error, attempts, child_id,"
            " started_at, completed_at from steps where workflow_id = 'once' and done <= %s",
            id,
            done,
        )
        await engine.execute(
            "insert into events select %s, position, key, value, step, done, set_at from events"
            " where workflow_id = 'once' and done <= %s",
            id,
            done,
        )
    await engine.crash()
    for done in range(len(steps) + 1):
        assert await engine.output(f"after-{done}") == once, f"recovered from {done} of {len(steps)} records"
        assert [(s["seq"], s["name"], s["output"]) for s in await engine.steps(f"after-{done}")] == [
            (s["seq"], s["name"], s["output"]) for s in steps
        ]
        assert await engine.events(f"after-{done}") == sets
    return once


# ---- orders of completion


async def test_branches_get_their_own_results_whichever_was_faster(engine: Engine):
    order = Order("A1", "B1", "B2", "A2")

    async def act(ctx: Context, name: str) -> str:
        return f"result of {await order.turn(ctx.workflow_id, name)}"

    async def program(ctx: Context) -> list[list[str]]:
        async def branch(name: str) -> list[str]:
            return [await ctx.step(act, ctx, f"{name}{number}") for number in (1, 2)]

        return list(await asyncio.gather(branch("A"), branch("B")))

    assert await prefixes(engine, program) == [[f"result of {n}{i}" for i in (1, 2)] for n in "AB"]


async def test_a_task_group_comes_out_as_it_went_in(engine: Engine):
    order = Order("c", "a", "b")

    async def act(ctx: Context, name: str) -> str:
        return await order.turn(ctx.workflow_id, name)

    async def program(ctx: Context) -> list[str]:
        finished: list[str] = []

        async def branch(name: str) -> None:
            finished.append(await ctx.step(act, ctx, name))
            await ctx.set_event("finished", name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(branch(name))
        return finished

    assert await prefixes(engine, program) == ["c", "a", "b"]


async def test_a_race_has_the_same_winner_in_replay(engine: Engine):
    order = Order("hare", "tortoise", "end")

    async def run(ctx: Context, name: str) -> str:
        return await order.turn(ctx.workflow_id, name)

    async def program(ctx: Context) -> list[str]:
        racers = {asyncio.ensure_future(ctx.step(run, ctx, name)) for name in ("tortoise", "hare")}
        done, others = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        winners = [racer.result() for racer in done]
        second = [await racer for racer in others]
        return [*winners, *second, await ctx.step(run, ctx, "end")]

    assert await prefixes(engine, program) == ["hare", "tortoise", "end"]


async def test_a_cancelled_loser_stays_one(engine: Engine):
    async def quick() -> str:
        return "quick"

    async def slow() -> str:
        await asyncio.Event().wait()
        return "slow"

    async def program(ctx: Context) -> list[str]:
        racers = [asyncio.ensure_future(ctx.step(step)) for step in (slow, quick)]
        done, others = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for loser in others:
            loser.cancel()
        lost = await asyncio.gather(*others, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in lost)
        return [racer.result() for racer in done] + [await ctx.step(quick)]

    assert await prefixes(engine, program) == ["quick", "quick"]
    assert [step["seq"] for step in await engine.steps("once")] == [2, 3]


async def test_a_pool_of_workers_comes_out_as_it_went_in(engine: Engine):
    order = Order("job 1", "job 2", "job 0", "job 4", "job 3")

    async def act(ctx: Context, job: str) -> str:
        return await order.turn(ctx.workflow_id, job)

    async def program(ctx: Context) -> list[list[str]]:
        jobs: asyncio.Queue[int] = asyncio.Queue()
        for number in range(5):
            jobs.put_nowait(number)

        async def worker() -> list[str]:
            done = []
            while not jobs.empty():
                done.append(await ctx.step(act, ctx, f"job {jobs.get_nowait()}"))
            return done

        return list(await asyncio.gather(*(worker() for _ in range(3))))

    once = await prefixes(engine, program)
    assert sorted(job for jobs in once for job in jobs) == [f"job {number}" for number in range(5)]


async def test_time_randomness_and_ids_are_the_same_in_replay(engine: Engine):
    async def look(*seen: Any) -> list[Any]:
        return list(seen)

    async def program(ctx: Context) -> list[Any]:
        first = [ctx.now().isoformat(), ctx.random.random(), str(ctx.uuid())]
        second = await ctx.step(look, *first)
        assert ctx.now().isoformat() > str(first[0])
        third = await ctx.step(look, ctx.now().isoformat(), ctx.random.random(), str(ctx.uuid()))
        return [first, second, third, str(ctx.uuid())]

    engine.workflow(program)
    points.install(Fault(kills(engine), At("step.before_call", 2)))
    await engine.begin("program", id="w")
    await eventually(engine.killed.is_set)
    points.install(None)
    (first,) = await engine.steps("w")
    await engine.crash()
    output = await engine.output("w")
    assert output[0] == output[1] == first["output"]
    assert len({output[0][2], output[2][2], output[3]}) == 3


async def test_the_logger_says_nothing_again_in_replay(engine: Engine, capsys: pytest.CaptureFixture[str]):
    from app import telemetry

    async def step() -> None:
        pass

    @engine.workflow
    async def talks(ctx: Context) -> None:
        ctx.logger.warning("before the step")
        await ctx.step(step)
        ctx.logger.warning("after the step")
        await ctx.receive("go")
        ctx.logger.warning("at the end")

    telemetry.configure("warning")
    id = await engine.begin(talks)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.becomes(id, "WAITING")
    await engine.send(id, "go")
    await engine.output(id)
    told = capsys.readouterr().err
    assert [told.count(text) for text in ("before the step", "after the step", "at the end")] == [1, 1, 1]


# ---- code that has changed


async def changed(engine: Engine, before: Program, after: Program) -> Any:
    """Why a workflow fails whose code is another one after a crash."""
    code = [before]

    async def program(ctx: Context) -> Any:
        return await code[0](ctx)

    engine.workflow(program)
    id = await engine.begin("program")
    await engine.becomes(id, "WAITING")
    code[0] = after
    await engine.bury()
    engine.ran.clear()
    await engine.start()
    await engine.send(id, "go")
    error = await engine.error(id)
    assert error["type"] == NonDeterministicWorkflow.__name__
    return error["message"]


async def test_a_step_with_another_name_fails_and_names_both(engine: Engine):
    async def reserve() -> None: ...

    async def pay() -> None:
        engine.ran.append("pay")

    async def before(ctx: Context) -> None:
        await ctx.step(reserve)
        await ctx.receive("go")

    async def after(ctx: Context) -> None:
        await ctx.step(pay)
        await ctx.receive("go")

    message = await changed(engine, before, after)
    assert "'reserve'" in message
    assert "'pay'" in message
    assert engine.ran == []


async def test_a_step_with_other_arguments_fails_and_is_named(engine: Engine):
    async def pay(amount: int) -> None:
        engine.ran.append(f"pay {amount}")

    async def before(ctx: Context) -> None:
        await ctx.step(pay, 1)
        await ctx.receive("go")

    async def after(ctx: Context) -> None:
        try:
            await ctx.step(pay, 2)
        except Exception:
            await ctx.step(pay, 3)

    message = await changed(engine, before, after)
    assert "'pay'" in message
    assert "arguments" in message
    assert engine.ran == []


@pytest.mark.parametrize("ending", ["returns", "waits"])
async def test_a_call_that_is_not_made_any_more_fails_and_is_named(engine: Engine, ending: str):
    async def reserve() -> None: ...

    async def before(ctx: Context) -> None:
        await ctx.step(reserve)
        await ctx.receive("go")

    async def after(ctx: Context) -> None:
        if ending == "waits":
            await asyncio.Event().wait()

    message = await changed(engine, before, after)
    assert "'reserve'" in message
    assert "not made any more" in message


# ---- what can't be replayed is refused


async def refusal(engine: Engine, program: Program) -> str:
    engine.workflow(program)
    error = await engine.error(await engine.begin("program"))
    assert error["type"] == "AuthoringError", error
    return str(error["message"])


async def test_a_durable_call_inside_a_step_is_refused(engine: Engine):
    async def inner() -> None: ...

    async def outer(ctx: Context) -> None:
        await ctx.step(inner)

    async def program(ctx: Context) -> None:
        await ctx.step(outer, ctx)

    assert "not in a step" in await refusal(engine, program)


async def test_a_durable_call_inside_a_step_by_the_workflows_own_context_is_refused(engine: Engine):
    async def inner() -> None: ...

    async def program(ctx: Context) -> None:
        async def outer() -> None:
            await ctx.step(inner)

        await ctx.step(outer)

    assert "own tasks only" in await refusal(engine, program)


async def test_a_durable_call_in_a_thread_is_refused(engine: Engine):
    async def program(ctx: Context) -> None:
        def in_thread() -> None:
            assert threading.current_thread() is not threading.main_thread()
            ctx.set_event("key", 1)

        await ctx.step(in_thread)

    assert "own tasks only" in await refusal(engine, program)
    assert await engine.one("select count(*) from events") == 0


async def test_a_durable_call_from_a_foreign_task_is_refused(engine: Engine):
    contexts: list[Context] = []

    @engine.workflow
    async def lends(ctx: Context) -> None:
        contexts.append(ctx)
        await ctx.receive("go")

    id = await engine.begin(lends)
    await eventually(lambda: contexts)
    for call in (contexts[0].sleep(1), contexts[0].receive("go")):
        with pytest.raises(Exception, match="own tasks only"):
            await call
    with pytest.raises(Exception, match="own tasks only"):
        contexts[0].set_event("key", 1)
    await engine.send(id, "go")
    await engine.output(id)


@pytest.mark.parametrize("what", ["sleep", "timeout", "wait", "thread"])
async def test_timers_and_threads_of_asyncio_say_what_to_use_instead(engine: Engine, what: str):
    async def program(ctx: Context) -> None:
        if what == "sleep":
            await asyncio.sleep(1)
        elif what == "timeout":
            async with asyncio.timeout(1):
                await ctx.receive("go")
        elif what == "wait":
            await asyncio.wait({asyncio.ensure_future(ctx.receive("go"))}, timeout=1)
        else:
            await asyncio.to_thread(time.monotonic)

    assert ("step" if what == "thread" else "ctx.sleep") in await refusal(engine, program)


async def test_waiting_for_what_nothing_can_bring_fails_at_once(engine: Engine):
    async def program(ctx: Context) -> None:
        await asyncio.get_running_loop().create_future()

    assert "not a durable call" in await refusal(engine, program)


async def test_context_variables_of_the_workflow_reach_its_threads(engine: Engine):
    """And asyncio.sleep(0) is no timer."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    def ask() -> str:
        return who.get()

    @engine.workflow
    async def program(ctx: Context) -> str:
        who.set("the workflow")
        await asyncio.sleep(0)
        return await ctx.step(ask)

    assert await engine.run(program) in ("the workflow", "nobody")


# ---- how long it takes


@pytest.mark.alone
async def test_replay_takes_time_in_proportion_to_the_records(engine: Engine):
    async def step(number: int) -> int:
        return number

    @engine.workflow
    async def counts(ctx: Context, steps: int) -> int:
        total = 0
        for number in range(steps):
            total += await ctx.step(step, number)
        await ctx.receive("go")
        return total

    took: dict[int, float] = {}
    for steps in (500, 2_000):
        id = await engine.begin(counts, steps)
        await engine.becomes(id, "WAITING", timeout=30)
        await engine.crash()
        flushes = Fault(nothing)
        points.install(flushes)
        since = time.process_time()
        await engine.send(id, "go")
        assert await engine.output(id) == steps * (steps - 1) // 2
        took[steps] = time.process_time() - since
        points.install(None)
    assert took[2_000] < 12 * took[500], took
