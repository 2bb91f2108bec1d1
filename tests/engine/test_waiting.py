"""Waiting without memory: what is parked, what wakes it, and what is told when the time is up."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import ChildFailed, Context, EventNeverSet, TimedOut, WorkflowNotFound
from app.engine import points
from app.model import WorkflowId
from tests.support.engine import Engine, running
from tests.support.waiting import eventually

# ---- parking and waking


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


async def test_a_parked_workflow_that_is_still_in_memory_goes_on_in_place(engine: Engine):
    entered: list[str] = []

    @engine.workflow
    async def waits(ctx: Context) -> list[str]:
        entered.append(ctx.workflow_id)
        return [await ctx.receive("go"), await ctx.receive("go")]

    id = await engine.begin(waits)
    for payload in ("one", "two"):
        await engine.becomes(id, "WAITING")
        await engine.send(id, "go", payload)
        await engine.becomes(id, "RUNNING", "SUCCEEDED", "QUEUED")
    assert await engine.output(id) == ["one", "two"]
    assert entered == [id]


async def test_a_crash_while_parked_loses_nothing(engine: Engine):
    @engine.workflow
    async def waits(ctx: Context) -> str:
        return str(await ctx.receive("go"))

    id = await engine.begin(waits)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "go", "now")
    assert await engine.output(id) == "now"


async def test_a_message_that_comes_while_nobody_lives_is_received_after_the_start(engine: Engine):
    @engine.workflow
    async def waits(ctx: Context) -> str:
        return str(await ctx.receive("go", timeout=60))

    id = await engine.begin(waits)
    await engine.becomes(id, "WAITING")
    await engine.send(id, "other")
    await engine.becomes(id, "WAITING")
    await engine.restart()
    await engine.send(id, "go", "late")
    assert await engine.output(id) == "late"


async def test_a_message_that_is_read_while_its_workflow_is_being_parked_is_not_lost(either: Engine):
    """It is committed after the park, and found before the park has been answered."""
    engine = either
    parked, go_on = asyncio.Event(), asyncio.Event()

    async def hold_the_answer(point: str) -> None:
        if point == "journal.after_flush" and not parked.is_set() and await engine.status("w") == "WAITING":
            parked.set()
            await go_on.wait()

    @engine.workflow
    async def waits(ctx: Context) -> list[str]:
        return [await ctx.receive("go"), await ctx.receive("go")]

    points.install(hold_the_answer)
    await engine.begin(waits, id="w")
    await eventually(parked.is_set)
    await engine.send("w", "go", "first")
    run = engine.runtime._executor._runs[WorkflowId("w")]
    await eventually(lambda: run._outcomes, message="the message is not read")
    go_on.set()
    await engine.send("w", "go", "second")
    assert await engine.output("w") == ["first", "second"]


async def test_a_workflow_is_not_parked_while_more_messages_may_be_there(either: Engine):
    """The one that it had found may not have been the last."""
    engine = either
    reads = 0

    async def hold_the_second_read(point: str) -> None:
        nonlocal reads
        if point == "mailbox.before_read" and (reads := reads + 1) == 2:
            await asyncio.Event().wait()

    @engine.workflow
    async def waits(ctx: Context) -> list[str]:
        await ctx.receive("begin")
        return [await ctx.receive("go"), await ctx.receive("go")]

    id = await engine.begin(waits)
    await engine.becomes(id, "WAITING")
    await engine.send(id, "go", "first")
    await engine.send(id, "go", "second")
    await engine.becomes(id, "WAITING")
    points.install(hold_the_second_read)
    reads = -1
    await engine.send(id, "begin")
    assert await engine.output(id) == ["first", "second"]


async def test_an_expired_wait_still_gets_the_message_that_came_in_time(engine: Engine):
    """Nobody lived when the time was up."""

    @engine.workflow
    async def waits(ctx: Context) -> str:
        try:
            return str(await ctx.receive("payment", timeout=0.3))
        except TimedOut:
            return "too late"

    id = await engine.begin(waits)
    await engine.becomes(id, "WAITING")
    points.install(_nobody_claims)
    await engine.send(id, "payment", "paid")
    (wait,) = await engine.rows("select * from waits where workflow_id = %s", id)
    await engine.bury()
    points.install(None)
    await eventually(lambda: datetime.now(UTC) > wait["deadline"])
    await engine.start()
    assert await engine.output(id) == "paid"


async def _nobody_claims(point: str) -> None:
    if point == "executor.before_claim":
        await asyncio.Event().wait()


async def test_a_receive_without_patience_takes_what_is_there(engine: Engine):
    @engine.workflow
    async def polls(ctx: Context) -> list[Any]:
        await ctx.receive("start")
        found = await ctx.receive("mail", timeout=0)
        try:
            await ctx.receive("mail", timeout=0)
        except TimedOut:
            return [found, "nothing more"]
        return []

    id = await engine.begin(polls)
    await engine.send(id, "mail", "letter")
    await engine.send(id, "start")
    assert await engine.output(id) == ["letter", "nothing more"]


async def test_messages_of_a_topic_are_received_in_their_order_and_once(forgetful: Engine):
    engine = forgetful

    @engine.workflow
    async def counts(ctx: Context) -> list[int]:
        return [await ctx.receive("number") for _ in range(10)]

    id = await engine.begin(counts)
    for number in range(5):
        await engine.send(id, "number", number)
    await engine.forgotten(id)
    await engine.crash()
    for number in range(5, 10):
        await engine.send(id, "other", number)
        await engine.send(id, "number", number)
    assert await engine.output(id) == list(range(10))


async def test_two_receives_at_once_are_served_in_the_order_of_their_calls(engine: Engine):
    @engine.workflow
    async def twice(ctx: Context) -> list[str]:
        return list(await asyncio.gather(ctx.receive("go"), ctx.receive("go")))

    id = await engine.begin(twice)
    await engine.becomes(id, "WAITING")
    await engine.send(id, "go", "first")
    await engine.send(id, "go", "second")
    assert await engine.output(id) == ["first", "second"]


async def test_a_receive_that_was_given_up_leaves_its_message_to_the_next_one(engine: Engine):
    @engine.workflow
    async def races(ctx: Context) -> list[str]:
        slow = asyncio.ensure_future(ctx.receive("go"))
        await ctx.sleep(0.05)
        slow.cancel()
        await ctx.set_event("status", "gave up")
        return [await ctx.receive("go")]

    id = await engine.begin(races)
    await engine.published(id, "status")
    await engine.send(id, "go", "for whom?")
    assert await engine.output(id) == ["for whom?"]


# ---- time-outs


async def test_a_null_message_is_not_silence(engine: Engine):
    @engine.workflow
    async def waits(ctx: Context) -> list[Any]:
        heard = await ctx.receive("go", timeout=5)
        try:
            await ctx.receive("go", timeout=0.05)
        except TimeoutError:
            return [heard, "silence"]
        return [heard]

    id = await engine.begin(waits)
    await engine.send(id, "go", None)
    assert await engine.output(id) == [None, "silence"]


async def test_a_deadline_is_kept_over_a_crash(forgetful: Engine):
    engine = forgetful

    @engine.workflow
    async def waits(ctx: Context) -> str:
        try:
            return str(await ctx.receive("never", timeout=2.0))
        except TimedOut:
            return "time is up"

    id = await engine.begin(waits)
    await engine.forgotten(id)
    (before,) = await engine.rows("select deadline from waits where workflow_id = %s", id)
    await engine.send(id, "other")
    await engine.crash()
    await engine.becomes(id, "WAITING")
    assert await engine.rows("select deadline from waits where workflow_id = %s", id) == [before]
    assert await engine.output(id) == "time is up"
    (step,) = await engine.steps(id)
    assert timedelta(0) <= step["completed_at"] - before["deadline"] < timedelta(seconds=1)


async def test_waits_side_by_side_keep_their_own_deadlines(forgetful: Engine):
    engine = forgetful

    @engine.workflow
    async def waits(ctx: Context) -> list[str]:
        async def until(topic: str, seconds: float) -> str:
            try:
                return str(await ctx.receive(topic, timeout=seconds))
            except TimedOut:
                return f"no {topic}"

        order: list[str] = []

        async def note(wait: Any) -> None:
            order.append(await wait)

        await asyncio.gather(note(until("slow", 3.0)), note(until("fast", 2.0)), note(until("message", 60)))
        return order

    id = await engine.begin(waits)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "message", "message")
    assert await engine.output(id) == ["message", "no fast", "no slow"]
    slow, fast, _ = await engine.steps(id)
    assert fast["completed_at"] < slow["completed_at"]


# ---- sleeps


async def test_a_sleep_is_never_short_whatever_happens_meanwhile(either: Engine):
    engine = either

    @engine.workflow
    async def sleeps(ctx: Context) -> None:
        await ctx.set_event("asleep", True)
        await ctx.sleep(1)
        await ctx.set_event("awake", True)

    id = await engine.begin(sleeps)
    await engine.becomes(id, "WAITING")
    (wait,) = await engine.rows("select deadline from waits where workflow_id = %s", id)
    await engine.send(id, "noise")
    await engine.crash()
    await engine.send(id, "noise")
    await engine.output(id)
    asleep, awake = await engine.log(id)
    assert awake["set_at"] >= wait["deadline"] >= asleep["set_at"] + timedelta(seconds=1)
    assert awake["set_at"] < wait["deadline"] + timedelta(seconds=0.5)


async def test_a_sleep_until_a_time_that_has_passed_ends_at_once(engine: Engine):
    @engine.workflow
    async def sleeps(ctx: Context) -> str:
        await ctx.sleep_until(ctx.now() - timedelta(days=1))
        await ctx.sleep(0)
        return "awake"

    assert await engine.run(sleeps) == "awake"


async def test_a_sleep_until_a_time_ends_then(forgetful: Engine):
    engine = forgetful
    when = datetime.now(UTC) + timedelta(seconds=0.3)

    @engine.workflow
    async def sleeps(ctx: Context) -> None:
        await ctx.sleep_until(when)
        await ctx.set_event("awake", True)

    id = await engine.begin(sleeps)
    await engine.output(id)
    (awake,) = await engine.log(id)
    assert timedelta(0) <= awake["set_at"] - when < timedelta(seconds=0.5)


async def test_a_parked_sleep_ends_without_waiting_for_a_beat(database_url: str):
    async with running(database_url, beat=5.0, cache=0) as engine:

        @engine.workflow
        async def sleeps(ctx: Context, seconds: float) -> None:
            await ctx.sleep(seconds)
            await ctx.set_event("awake", True)

        ids = [await engine.begin(sleeps, 0.2 + n * 0.0103) for n in range(40)]
        for id in ids:
            await engine.output(id)
        late = await engine.one(
            "select max(extract(epoch from e.set_at - w.created_at)::float8 - w.input::text::float8)"
            " from workflows w join events e on e.workflow_id = w.id"
        )
        assert 0 <= late < 0.5


# ---- other workflows


@pytest.mark.parametrize("what", ["event", "result"])
async def test_a_parent_that_left_memory_is_woken_by_its_child(forgetful: Engine, what: str):
    engine = forgetful

    @engine.workflow
    async def child(ctx: Context) -> str:
        await ctx.receive("grow")
        await ctx.set_event("size", 7)
        await ctx.receive("end")
        return "grown"

    @engine.workflow
    async def parent(ctx: Context) -> Any:
        born = await ctx.start(child, id="child")
        return await (born.get_event("size") if what == "event" else born.result())

    id = await engine.begin(parent)
    await engine.forgotten(id)
    await engine.send("child", "grow")
    if what == "result":
        await engine.published("child", "size")
        await engine.send("child", "end")
    assert await engine.output(id) == (7 if what == "event" else "grown")


async def test_what_happens_while_the_parent_is_being_parked_wakes_it(forgetful: Engine):
    """The child ends between the parent's last look and its park."""
    engine = forgetful
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(point: str) -> None:
        if point == "journal.before_flush" and not held.is_set() and engine.ran == ["parks"]:
            held.set()
            await go_on.wait()

    @engine.workflow
    async def child(ctx: Context) -> str:
        await ctx.receive("end")
        return "grown"

    @engine.workflow
    async def parent(ctx: Context) -> Any:
        return await (await ctx.start(child, id="child")).result()

    id = await engine.begin(parent)
    await engine.becomes("child", "WAITING")
    await engine.forgotten(id)
    await engine.execute("update workflows set status = 'QUEUED', wake_at = now() where id = %s", id)
    engine.ran.append("parks")
    points.install(hold)
    engine.runtime._executor.poke()
    await eventually(held.is_set)
    points.install(None)
    go_on.set()
    await engine.send("child", "end")
    assert await engine.output(id) == "grown"


async def test_a_wake_up_is_not_lost_with_a_connection(forgetful: Engine):
    engine = forgetful

    @engine.workflow
    async def child(ctx: Context) -> None:
        await ctx.receive("end")

    @engine.workflow
    async def parent(ctx: Context) -> str:
        await (await ctx.start(child, id="child")).result()
        return "woken"

    id = await engine.begin(parent)
    await engine.forgotten(id)
    await engine.forgotten("child")
    cut = asyncio.Event()

    async def cut_the_executor_off(point: str) -> None:
        if point == "executor.before_wake" and not cut.is_set():
            cut.set()
            await engine.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'milepost executor'"
            )

    points.install(cut_the_executor_off)
    await engine.send("child", "end")
    assert await engine.output(id) == "woken"
    assert cut.is_set()


async def test_what_is_asked_of_others_fails_as_it_says(engine: Engine):
    told: dict[str, str] = {}

    @engine.workflow
    async def child(ctx: Context, fails: bool) -> None:
        await ctx.set_event("set", None)
        if fails:
            raise ValueError("no luck")

    @engine.workflow
    async def waits_for_ever(ctx: Context) -> None:
        await ctx.receive("never")

    @engine.workflow
    async def parent(ctx: Context) -> dict[str, Any]:
        born = await ctx.start(child, True, id="failing")
        try:
            await born.result()
        except ChildFailed as failed:
            told["failed"] = f"{failed.workflow_id} {failed.status} {failed.error['type']} {failed.error['message']}"
        told["null event"] = repr(await born.get_event("set"))
        try:
            await born.get_event("unset")
        except EventNeverSet:
            told["unset"] = "never set"
        try:
            await ctx.get_event("nobody", "key")
        except WorkflowNotFound:
            told["nobody"] = "not found"
        patient = await ctx.start(waits_for_ever, id="patient")
        for name, wait in [("result", patient.result(timeout=0.05)), ("event", patient.get_event("k", timeout=0.05))]:
            try:
                await wait
            except TimedOut:
                told[name] = "timed out"
        await patient.cancel()
        try:
            await patient.result()
        except ChildFailed as failed:
            told["cancelled"] = failed.status
        await ctx.receive("again")
        return told

    expected = {
        "failed": "failing FAILED ValueError no luck",
        "null event": "None",
        "unset": "never set",
        "nobody": "not found",
        "result": "timed out",
        "event": "timed out",
        "cancelled": "CANCELLED",
    }
    id = await engine.begin(parent)
    await eventually(lambda: "cancelled" in told)
    assert told == expected
    told.clear()
    await engine.crash()
    await engine.send(id, "again")
    assert await engine.output(id) == expected, "in replay it is told otherwise"
