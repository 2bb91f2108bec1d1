"""Steps: how often they are tried, how they fail, and what their records say."""

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import Context, Fatal, Retry, StepFailed, step
from app.engine import points
from app.model import WorkflowId
from tests.support.engine import Engine
from tests.support.waiting import eventually


@dataclass
class Order:
    number: int
    parts: tuple[str, ...]


# ---- tries


async def test_a_step_is_tried_as_often_as_its_retry_says(engine: Engine):
    @step(retry=Retry(attempts=3, delay=0))
    async def flaky() -> str:
        engine.ran.append("flaky")
        if len(engine.ran) < 3:
            raise OSError("not yet")
        return "done"

    @engine.workflow
    async def program(ctx: Context) -> str:
        return await ctx.step(flaky)

    id = await engine.begin(program)
    assert await engine.output(id) == "done"
    (record,) = await engine.steps(id)
    assert (record["attempts"], record["error"]) == (3, None)


@pytest.mark.parametrize(
    ("error", "tries"),
    [(OSError("again"), 3), (ValueError("not again"), 1), (Fatal("never", details={"why": 1}), 1)],
    ids=["an error that is named", "another error", "a fatal one"],
)
async def test_only_errors_that_are_named_are_tried_again(engine: Engine, error: Exception, tries: int):
    @step(retry=Retry(attempts=3, on=(OSError, Fatal), delay=0))
    def fails() -> None:
        engine.ran.append("fails")
        raise error

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.step(fails)

    id = await engine.begin(program)
    failure = await engine.error(id)
    assert (failure["type"], failure["message"], failure["step"]) == (type(error).__name__, str(error), "fails")
    assert failure["details"] == getattr(error, "details", None)
    assert len(engine.ran) == tries
    assert [record["attempts"] for record in await engine.steps(id)] == [tries]


async def test_pauses_between_tries_grow_and_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """At their longest: the jitter is a random part of each."""
    monkeypatch.setattr("random.random", lambda: 1.0)
    tried: list[float] = []

    @step(retry=Retry(attempts=5, delay=0.05, backoff=2.0, max_delay=0.15))
    async def flaky() -> None:
        tried.append(asyncio.get_running_loop().time())
        raise OSError

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.step(flaky)

    await engine.error(await engine.begin(program))
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert len(pauses) == 4
    for pause, least in zip(pauses, (0.05, 0.1, 0.15, 0.15), strict=True):
        assert least - 0.005 <= pause < least + 0.3


async def test_a_long_pause_between_tries_survives_a_crash_with_its_count(
    either: Engine, monkeypatch: pytest.MonkeyPatch
):
    engine = either
    monkeypatch.setattr("random.random", lambda: 1.0)

    @step(retry=Retry(attempts=3, delay=0.3, backoff=1.0))
    async def fails() -> None:
        engine.ran.append("try")
        raise OSError("no")

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.step(fails)

    id = await engine.begin(program)
    await engine.becomes(id, "WAITING")
    (wait,) = await engine.rows("select * from waits where workflow_id = %s", id)
    assert (wait["kind"], wait["attempts"], wait["error"]["message"]) == ("retry", 1, "no")
    await engine.crash()
    failure = await engine.error(id)
    (record,) = await engine.steps(id)
    assert engine.ran == ["try"] * 3
    assert (failure["type"], record["attempts"]) == ("OSError", 3)
    assert record["completed_at"] >= wait["deadline"] + timedelta(seconds=0.3)
    assert not await engine.rows("select * from waits")


async def test_a_step_that_was_running_when_its_process_died_is_tried_afresh(engine: Engine):
    @step(retry=Retry(attempts=2, delay=0))
    async def hangs_once() -> str:
        engine.ran.append("try")
        if len(engine.ran) == 1:
            await asyncio.Event().wait()
        return "done"

    @engine.workflow
    async def program(ctx: Context) -> str:
        return await ctx.step(hangs_once)

    id = await engine.begin(program)
    await engine.noted("try")
    await engine.crash()
    assert await engine.output(id) == "done"


async def test_a_step_is_told_the_same_idempotency_key_in_each_try_and_run(engine: Engine):
    keys: list[str] = []

    @step(retry=Retry(attempts=2, delay=0))
    async def pay(ctx: Context) -> None:
        keys.append(ctx.idempotency_key)
        if len(keys) == 1:
            raise OSError
        if len(keys) == 2:
            await asyncio.Event().wait()

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.step(pay, ctx)

    id = await engine.begin(program)
    await eventually(lambda: len(keys) == 2)
    await engine.crash()
    await engine.output(id)
    assert keys == [f"{id}:1"] * 3


# ---- time-outs


async def test_an_async_step_is_cancelled_when_its_time_is_up(engine: Engine):
    @step(timeout=0.05)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            engine.ran.append("cancelled")
            raise

    @engine.workflow
    async def program(ctx: Context) -> list[Any]:
        try:
            await ctx.step(slow)
        except StepFailed as failed:
            return [failed.step, failed.type, failed.attempts]
        return []

    assert await engine.run(program) == ["slow", "TimedOut", 1]
    assert engine.ran == ["cancelled"]


async def test_a_plain_step_is_left_behind_when_its_time_is_up(engine: Engine):
    go_on = threading.Event()

    @step(timeout=0.05)
    def slow() -> None:
        go_on.wait(10)
        engine.ran.append("ended")

    @engine.workflow
    async def program(ctx: Context) -> str:
        try:
            await ctx.step(slow)
        except StepFailed as failed:
            return failed.type
        return "in time"

    id = await engine.begin(program)
    try:
        assert await engine.output(id) == "TimedOut"
    finally:
        go_on.set()
    await engine.noted("ended")
    (record,) = await engine.steps(id)
    assert record["error"]["type"] == "TimedOut"


async def test_each_try_has_the_whole_time(engine: Engine):
    @step(timeout=0.2, retry=Retry(attempts=2, on=(TimeoutError,), delay=0))
    async def slow_at_first() -> str:
        engine.ran.append("try")
        if len(engine.ran) == 1:
            await asyncio.Event().wait()
        return "done"

    @engine.workflow
    async def program(ctx: Context) -> str:
        return await ctx.step(slow_at_first)

    assert await engine.run(program) == "done"


# ---- failures and results


async def test_a_failure_is_the_same_live_and_in_replay(engine: Engine):
    seen: list[list[Any]] = []
    causes: list[str] = []

    @step(retry=Retry(attempts=2, delay=0))
    async def fails(how: str) -> None:
        raise Fatal("refused", details={"code": 7}) if how == "fatal" else LookupError("lost")

    @engine.workflow
    async def program(ctx: Context) -> None:
        failures = []
        for how in ("fatal", "plain"):
            try:
                await ctx.step(fails, how)
            except StepFailed as failed:
                failures.append([failed.step, failed.type, failed.message, failed.details, failed.attempts])
                causes.append(type(failed.__cause__).__name__)
        seen.append(failures)
        await ctx.receive("go")

    id = await engine.begin(program)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "go")
    await engine.output(id)
    assert seen[0] == [["fails", "Fatal", "refused", {"code": 7}, 1], ["fails", "LookupError", "lost", None, 2]]
    assert seen[1] == seen[0]
    assert causes == ["Fatal", "LookupError", "NoneType", "NoneType"]


async def test_an_uncaught_failure_of_a_step_is_the_workflows_own(engine: Engine):
    async def fails() -> None:
        raise LookupError("lost")

    @engine.workflow
    async def program(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step(fails))

    error = await engine.error(await engine.begin(program))
    assert (error["type"], error["message"], error["step"]) == ("LookupError", "lost", "fails")


async def test_a_result_is_what_its_record_decodes_to(engine: Engine):
    kept = {"n": 1}

    async def typed(order: Order) -> Order:
        return order

    async def untyped():
        return (1, 2)

    def aliased() -> dict[str, int]:
        return kept

    @engine.workflow
    async def program(ctx: Context) -> list[Any]:
        order = await ctx.step(typed, Order(7, ("a", "b")))
        assert order == Order(7, ("a", "b"))
        same = await ctx.step(aliased)
        same["n"] = 2
        await ctx.receive("go")
        return [await ctx.step(untyped), same, kept]

    id = await engine.begin(program)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "go")
    assert await engine.output(id) == [[1, 2], {"n": 2}, {"n": 1}]


class Unusual(BaseException):
    """Nothing that code would expect."""


def _stop() -> None:
    raise StopIteration


def _exit() -> None:
    raise SystemExit(1)


def _cancel() -> None:
    raise asyncio.CancelledError


def _unusual() -> None:
    raise Unusual("oh")


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize(
    ("raises", "type"),
    [(_exit, "SystemExit"), (_cancel, "CancelledError"), (_unusual, "Unusual"), (_stop, "RuntimeError")],
)
async def test_whatever_a_step_raises_is_a_failure_of_that_step(
    engine: Engine, kind: str, raises: Callable[[], None], type: str
):
    async def in_loop() -> None:
        raises()

    @engine.workflow
    async def program(ctx: Context) -> str:
        try:
            await ctx.step(in_loop if kind == "async" else raises)
        except StepFailed as failed:
            return failed.type
        return "nothing"

    assert await engine.run(program) == type


async def test_a_result_that_is_no_json_or_too_large_fails_the_step(engine: Engine):
    async def no_json() -> Any:
        return object()

    async def large() -> str:
        return "x" * 2_000_000

    async def mistyped() -> int:
        return "seven"  # type: ignore[return-value]

    @engine.workflow
    async def program(ctx: Context) -> list[str]:
        types = []
        for bad in (no_json, large, mistyped):
            try:
                await ctx.step(bad)
            except StepFailed as failed:
                types.append(failed.type)
        return types

    assert await engine.run(program) == ["AuthoringError", "ValueTooLarge", "AuthoringError"]


async def test_steps_may_be_methods_partials_and_callables_of_other_threads(engine: Engine):
    class Shop:
        def price(self, item: str) -> str:
            return f"{item} costs {threading.current_thread().name.partition('_')[0]}"

    @engine.workflow
    async def program(ctx: Context) -> str:
        return await ctx.step(Shop().price, "tea")

    assert await engine.run(program) == "tea costs step"


async def test_one_slow_plain_step_does_not_stall_the_others(engine: Engine):
    go_on = threading.Event()

    def slow() -> None:
        go_on.wait(10)

    async def quick() -> None: ...

    @engine.workflow
    async def stalls(ctx: Context) -> None:
        await ctx.step(slow)

    @engine.workflow
    async def goes_on(ctx: Context) -> None:
        await ctx.step(quick)

    id = await engine.begin(stalls)
    try:
        since = datetime.now(UTC)
        await engine.run(goes_on)
        assert datetime.now(UTC) - since < timedelta(seconds=2)
        assert await engine.status(id) == "RUNNING"
    finally:
        go_on.set()
    await engine.output(id)


# ---- events inside of steps


async def test_an_event_inside_a_step_is_visible_while_the_step_runs(engine: Engine):
    go_on = asyncio.Event()

    async def upload(ctx: Context) -> None:
        for done in (0, 50, 100):
            await ctx.set_event("progress", done)
        await go_on.wait()

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.set_event("status", "uploading")
        await ctx.step(upload, ctx)
        await ctx.set_event("status", "uploaded")

    id = await engine.begin(program)
    await engine.published(id, "progress", 100)
    assert await engine.steps(id) == []
    go_on.set()
    await engine.output(id)
    log = await engine.log(id)
    assert [(row["position"], row["key"], row["step"]) for row in log] == [
        (1, "status", None),
        (2, "progress", 1),
        (3, "progress", 1),
        (4, "progress", 1),
        (5, "status", None),
    ]


async def test_events_of_steps_side_by_side_share_one_log(engine: Engine):
    async def upload(ctx: Context, name: str) -> None:
        for done in range(20):
            await ctx.set_event(name, done)

    def upload_in_thread(ctx: Context, name: str) -> None:
        for done in range(20):
            ctx.set_event(name, done)

    @engine.workflow
    async def program(ctx: Context) -> None:
        await asyncio.gather(
            ctx.step(upload, ctx, "a"), ctx.step(upload_in_thread, ctx, "b"), ctx.step(upload, ctx, "c")
        )

    id = await engine.begin(program)
    await engine.output(id)
    log = await engine.log(id)
    assert [row["position"] for row in log] == list(range(1, 61))
    for key in "abc":
        assert [row["value"] for row in log if row["key"] == key] == list(range(20))


async def test_a_step_goes_on_after_its_pause_and_not_while_its_workflow_is_being_parked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise it would be broken off in the middle, and run once more."""
    monkeypatch.setattr("random.random", lambda: 1.0)
    parks, held, go_on = 0, asyncio.Event(), asyncio.Event()

    async def hold_the_park(point: str) -> None:
        nonlocal parks
        if point == "journal.before_flush" and engine.ran:
            parks += 1
            if parks == 1:
                held.set()
                await go_on.wait()

    @step(retry=Retry(attempts=2, delay=0.1))
    async def flaky() -> None:
        engine.ran.append("try")
        if len(engine.ran) == 1:
            raise OSError

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.step(flaky)

    points.install(hold_the_park)
    id = await engine.begin(program)
    await eventually(held.is_set)
    # The pause is over long before the park is written.
    run = engine.runtime._executor._runs[WorkflowId(id)]
    await eventually(lambda: run._stays is not None)
    assert engine.ran == ["try"]
    go_on.set()
    await engine.output(id)
    assert engine.ran == ["try", "try"]
