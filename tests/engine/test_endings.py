"""How workflows end from outside: cancelled, out of time, dead; what cleans up after them, and how they go on."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app import Context
from app.engine.points import install
from app.errors import WorkflowAborted, WorkflowFinished
from tests.support.engine import Engine
from tests.support.waiting import eventually


async def test_a_cancelled_workflow_goes_on_from_its_last_record_when_it_is_resumed(either: Engine):
    engine = either

    async def first() -> None:
        engine.ran.append("first")

    @engine.workflow
    async def program(ctx: Context) -> str:
        await ctx.step(first)
        await ctx.set_event("status", "waiting")
        return str(await ctx.receive("go"))

    id = await engine.begin(program)
    await engine.becomes(id, "WAITING")
    assert (await engine.cancel(id)).status == "CANCELLED"
    assert (await engine.cancel(id)).status == "CANCELLED"
    with pytest.raises(WorkflowFinished):
        await engine.send(id, "go", "too early")
    await engine.resume(id)
    await engine.send(id, "go", "now")
    assert await engine.output(id) == "now"
    assert (engine.ran, await engine.events(id)) == (["first"], [("status", "waiting")])
    with pytest.raises(WorkflowFinished):
        await engine.cancel(id)


async def test_a_workflow_that_is_resumed_while_its_old_step_still_runs_runs_it_again(engine: Engine):
    first, second = asyncio.Event(), asyncio.Event()

    async def pay(ctx: Context) -> str:
        engine.ran.append(ctx.idempotency_key)
        gate = first if len(engine.ran) == 1 else second
        await gate.wait()
        return f"run {1 if gate is first else 2}"

    @engine.workflow
    async def program(ctx: Context) -> str:
        return await ctx.step(pay, ctx)

    id = await engine.begin(program)
    await eventually(lambda: len(engine.ran) == 1)
    await engine.cancel(id)
    await engine.resume(id)
    await eventually(lambda: len(engine.ran) == 2)
    first.set()
    second.set()
    assert await engine.output(id) == "run 2"
    assert engine.ran == [f"{id}:1"] * 2
    assert [row["output"] for row in await engine.steps(id)] == ["run 2"]


async def test_children_are_cancelled_with_their_parent(engine: Engine):
    @engine.workflow
    async def child(ctx: Context, depth: int) -> None:
        if depth:
            await ctx.start(child, depth - 1, id=f"child-{depth - 1}")
        await ctx.receive("never")

    id = await engine.begin(child, 2)
    await engine.becomes("child-0", "WAITING", "RUNNING")
    await engine.cancel(id)
    assert [await engine.status(who) for who in (id, "child-1", "child-0")] == ["CANCELLED"] * 3


@pytest.mark.parametrize("status", ["CANCELLED", "TIMED_OUT", "DEAD"])
async def test_what_cleans_up_is_started_once_with_what_it_needs(engine: Engine, status: str):
    @engine.workflow
    async def clean_up(ctx: Context, ended: dict[str, Any]) -> dict[str, Any]:
        engine.ran.append("clean up")
        return ended

    async def crash() -> None:
        engine.ran.append("crash")
        await asyncio.Event().wait()

    @engine.workflow(on_abort=clean_up, timeout=0.3 if status == "TIMED_OUT" else None, max_recoveries=1)
    async def program(ctx: Context, order: dict[str, int]) -> None:
        await (ctx.step(crash) if status == "DEAD" else ctx.receive("never"))

    id = await engine.begin(program, {"n": 7})
    if status == "CANCELLED":
        await engine.becomes(id, "RUNNING", "WAITING")
        await asyncio.gather(engine.cancel(id), engine.cancel(id))
    elif status == "DEAD":
        for lives in (1, 2):
            await engine.noted_times("crash", lives)
            await engine.crash()
    await engine.becomes(id, status)
    assert await engine.output(f"{id}:abort") == {"workflow_id": id, "status": status, "input": {"n": 7}}
    assert await engine.one("select parent_id from workflows where id = %s", f"{id}:abort") is None
    with pytest.raises(WorkflowAborted):
        await engine.resume(id)
    assert engine.ran.count("clean up") == 1


async def test_a_workflow_out_of_time_ends_and_gets_all_its_time_again_when_it_is_resumed(engine: Engine):
    @engine.workflow(timeout=0.4)
    async def program(ctx: Context) -> str:
        return str(await ctx.receive("go"))

    id = await engine.begin(program)
    ended = await engine.end(id)
    assert (ended.status, ended.completed_at and ended.started_at) == ("TIMED_OUT", ended.started_at)
    assert ended.started_at
    assert ended.completed_at
    assert ended.completed_at >= ended.started_at + timedelta(seconds=0.4)
    await engine.resume(id)
    await engine.send(id, "go", "in time")
    assert await engine.output(id) == "in time"


async def test_a_workflow_that_ends_its_process_each_time_is_dead_after_its_recoveries(engine: Engine):
    async def poison() -> None:
        engine.ran.append("poison")
        await asyncio.Event().wait()

    @engine.workflow(max_recoveries=2)
    async def program(ctx: Context) -> None:
        await ctx.step(poison)

    id = await engine.begin(program)
    for lives in (1, 2, 3):
        await engine.noted_times("poison", lives)
        await engine.crash()
    ended = await engine.end(id)
    assert ended.status == "DEAD"
    assert len(engine.ran) == 3
    assert "3 times in a row" in (ended.error or "")


async def test_of_those_suspected_of_ending_their_process_one_runs_at_a_time_beside_the_others(engine: Engine):
    gates = {name: asyncio.Event() for name in ("one", "two", "other")}

    async def work(name: str) -> str:
        engine.ran.append(name)
        await gates[name].wait()
        return name

    async def last(name: str) -> str:
        engine.ran.append(f"last of {name}")
        await gates["other"].wait()
        return name

    @engine.workflow
    async def program(ctx: Context, name: str) -> str:
        await ctx.step(work, name)
        return await ctx.step(last, name)

    suspects = [await engine.begin(program, name, id=name) for name in ("one", "two")]
    await engine.noted("one", "two")
    await engine.bury()
    await engine.execute("update workflows set barren = 2")
    engine.ran.clear()
    await engine.start()
    other = await engine.begin(program, "other")
    await engine.noted("other")
    await eventually(lambda: "one" in engine.ran or "two" in engine.ran, message="no suspect runs")
    (first,) = {"one", "two"} & set(engine.ran)
    (second,) = {"one", "two"} - {first}
    await engine.execute("update workflows set wake_at = now() where status = 'QUEUED'")
    claimed = await engine.begin(program, "other", delay=0.05)
    await engine.noted_times("other", 2)
    assert second not in engine.ran
    gates[first].set()
    await engine.noted(f"last of {first}", second)
    for gate in gates.values():
        gate.set()
    for id in (*suspects, other, claimed):
        await engine.output(id)


async def test_a_workflow_that_gets_on_between_its_losses_lives(engine: Engine):
    async def work(number: int) -> int:
        engine.ran.append(f"step {number}")
        if engine.ran.count(f"step {number}") == 1:
            await asyncio.Event().wait()
        return number

    @engine.workflow(max_recoveries=1)
    async def program(ctx: Context) -> list[int]:
        return [await ctx.step(work, number) for number in range(4)]

    id = await engine.begin(program)
    for number in range(4):
        await engine.noted(f"step {number}")
        await engine.crash()
    assert await engine.output(id) == [0, 1, 2, 3]


async def test_losses_between_transactions_are_not_counted_in_a_row(engine: Engine):
    async def work(connection: Any, number: int) -> int:
        engine.ran.append(f"step {number}")
        if engine.ran.count(f"step {number}") == 1:
            await asyncio.Event().wait()
        return number

    @engine.workflow(max_recoveries=1)
    async def program(ctx: Context) -> list[int]:
        return [await ctx.transaction(work, number) for number in range(3)]

    id = await engine.begin(program)
    for number in range(3):
        await engine.noted(f"step {number}")
        await engine.crash()
    assert await engine.output(id) == [0, 1, 2]


async def test_a_workflow_of_an_old_version_is_recovered_with_its_own_code(engine: Engine):
    @engine.workflow(name="program", version="1.9")
    async def old(ctx: Context) -> str:
        await ctx.receive("go")
        return "old"

    id = await engine.begin("program")
    await engine.becomes(id, "WAITING")

    @engine.workflow(name="program", version="1.10")
    async def new(ctx: Context) -> str:
        return "new"

    await engine.crash()
    await engine.send(id, "go")
    assert await engine.output(id) == "old"
    assert await engine.run("program") == "new"


@pytest.mark.parametrize(
    "value", [object(), float("nan"), "\0", "x" * 1_100_000], ids=["object", "nan", "nul", "large"]
)
@pytest.mark.parametrize("where", ["output", "event"])
async def test_a_value_that_json_does_not_hold_fails_its_workflow_with_the_reason(
    engine: Engine, where: str, value: Any
):
    async def work() -> None: ...

    @engine.workflow
    async def program(ctx: Context) -> Any:
        await ctx.step(work)
        await ctx.set_event("status", "worked")
        if where == "event":
            await ctx.set_event("bad", value)
        return value

    id = await engine.begin(program)
    error = await engine.error(id)
    assert error["type"] in ("AuthoringError", "InvalidRequest", "ValueTooLarge")
    assert error["message"]
    assert (len(await engine.steps(id)), await engine.events(id)) == (1, [("status", "worked")])


async def test_a_declared_event_is_held_to_its_type(engine: Engine):
    @engine.workflow(events={"progress": int})
    async def program(ctx: Context) -> str:
        try:
            await ctx.set_event("progress", "half")
        except Exception as error:
            await ctx.set_event("progress", 50)
            return type(error).__name__
        return "accepted"

    id = await engine.begin(program)
    assert await engine.output(id) == "AuthoringError"
    assert await engine.events(id) == [("progress", 50)]


async def test_what_the_database_refuses_fails_its_workflow_and_no_other(engine: Engine):
    """And leaves a whole log: nothing of what was recorded after a refused entry."""
    await engine.execute("alter table events add check (value::text <> '\"poison\"')")
    held, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None: ...

    @engine.workflow
    async def guilty(ctx: Context) -> None:
        await ctx.set_event("status", "good")
        await ctx.step(work)
        await ctx.set_event("status", "poison")
        await ctx.step(work)

    @engine.workflow
    async def innocent(ctx: Context) -> str:
        await ctx.step(work)
        return "fine"

    async def hold(point: str) -> None:
        if point == "journal.before_flush" and not held.is_set():
            held.set()
            await go_on.wait()

    install(hold)
    started = [engine.beside(engine.begin(program)) for program in (innocent, guilty, innocent, innocent)]
    await eventually(held.is_set)
    go_on.set()
    ids = [await start for start in started]
    error = await engine.error(ids[1])
    assert "refused" in error["message"]
    for id in (ids[0], ids[2], ids[3]):
        assert await engine.output(id) == "fine"
    assert [(row["position"], row["value"]) for row in await engine.log(ids[1])] == [(1, "good")]
