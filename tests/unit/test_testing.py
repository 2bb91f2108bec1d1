import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app import (
    AuthoringError,
    ChildFailed,
    Context,
    EventNeverSet,
    Fatal,
    InvalidInput,
    Registry,
    Retry,
    StepFailed,
    TimedOut,
    WorkflowNotFound,
    step,
    testing,
    workflow,
)
from app.authoring.testing import Later, SentMessage, StartedChild
from app.model import Status


def defined(function: Callable[..., Awaitable[Any]], **options: Any) -> Callable[..., Awaitable[Any]]:
    return workflow(registry=Registry(), **options)(function)


async def run(function: Callable[..., Awaitable[Any]], input: Any = None, **script: Any) -> testing.Outcome:
    return await testing.run(defined(function), input, **script)


@dataclass
class Order:
    sku: str
    quantity: int = 1


@dataclass
class Payment:
    id: str


async def create_payment(order: Order) -> Payment:
    return Payment(f"pay-{order.sku}")


def reserve(order: Order) -> tuple[str, int]:
    return order.sku, order.quantity


async def test_steps_are_called_and_their_results_come_from_their_json():
    async def checkout(ctx: Context, order: Order) -> Payment:
        assert await ctx.step(reserve, order) == ("A1", 1)
        assert list(await ctx.step(lambda: (1, 2))) == [1, 2]
        return await ctx.step(create_payment, order)

    outcome = await run(checkout, {"sku": "A1"})

    assert (outcome.status, outcome.output, outcome.error) == (Status.SUCCEEDED, Payment("pay-A1"), None)
    assert [step.name for step in outcome.steps] == ["reserve", "<lambda>", "create_payment"]
    assert outcome.steps[2].args == (Order("A1"),)


async def test_a_stand_in_is_a_function_a_value_or_an_error():
    async def checkout(ctx: Context) -> str:
        return (await ctx.step(create_payment, Order("A1"))).id

    async def fake(order: Order) -> Payment:
        return Payment(order.sku.lower())

    assert (await run(checkout, steps={create_payment: fake})).output == "a1"
    assert (await run(checkout, steps={create_payment: lambda order: Payment("x")})).output == "x"
    assert (await run(checkout, steps={create_payment: Payment("y")})).output == "y"
    assert isinstance((await run(checkout, steps={create_payment: OSError("down")})).error, StepFailed)


async def test_the_input_is_judged_as_at_a_start():
    async def checkout(ctx: Context, order: Order) -> None: ...

    with pytest.raises(InvalidInput):
        await run(checkout, {"quantity": 1})


async def test_time_is_virtual():
    async def nap(ctx: Context) -> str:
        began = ctx.now()
        await ctx.sleep(86_400)
        await ctx.sleep_until(began + timedelta(days=3))
        await ctx.sleep_until(began)
        return ctx.now().isoformat()

    outcome = await run(nap, start=datetime(2026, 1, 1, tzinfo=UTC))

    assert outcome.output == "2026-01-04T00:00:00+00:00"
    assert outcome.elapsed == 3 * 86_400


async def test_a_step_that_fails_is_tried_again_after_its_waits():
    tries = []

    @step(retry=Retry(attempts=4, delay=100, on=(OSError,)))
    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("no route")
        return "there"

    async def patient(ctx: Context) -> str:
        return await ctx.step(flaky)

    outcome = await run(patient)

    assert (outcome.output, len(tries), outcome.steps[0].attempts) == ("there", 3, 3)
    assert 0 < outcome.elapsed < 300


async def test_a_step_that_fails_for_good_raises_step_failed():
    @step(retry=Retry(attempts=2))
    def broken() -> None:
        raise ValueError("bad price")

    async def fragile(ctx: Context) -> str:
        with pytest.raises(StepFailed) as caught:
            await ctx.step(broken)
        assert isinstance(caught.value.__cause__, ValueError)
        return f"{caught.value.type}: {caught.value.message} ({caught.value.attempts})"

    assert (await run(fragile)).output == "ValueError: bad price (2)"


async def test_a_fatal_error_is_not_tried_again():
    @step(retry=Retry(attempts=5))
    async def charge() -> None:
        raise Fatal("card stolen", details={"code": 4})

    async def pay(ctx: Context) -> None:
        await ctx.step(charge)

    error = (await run(pay)).error

    assert isinstance(error, StepFailed)
    assert (error.details, error.attempts) == ({"code": 4}, 1)


async def test_a_step_that_takes_too_long_has_timed_out():
    @step(timeout=0.01)
    async def endless() -> None:
        await asyncio.Event().wait()

    async def wait(ctx: Context) -> None:
        await ctx.step(endless)

    error = (await run(wait)).error

    assert isinstance(error, StepFailed)
    assert error.type == "TimedOut"


async def test_a_result_that_is_not_what_was_declared_fails_the_step():
    async def checkout(ctx: Context) -> None:
        await ctx.step(create_payment, Order("A1"))

    error = (await run(checkout, steps={create_payment: 5})).error

    assert isinstance(error, StepFailed)
    assert error.type == "AuthoringError"


async def test_events_are_logged_in_order_and_validated_by_their_types():
    async def publish(ctx: Context) -> None:
        for percent in (0, 50, 100):
            await ctx.set_event("progress", percent)
        ctx.set_event("free", {"any": ["thing"]})

    outcome = await testing.run(defined(publish, events={"progress": int}))
    assert outcome.log("progress") == [0, 50, 100]
    assert outcome.event("free") == {"any": ["thing"]}
    with pytest.raises(KeyError, match="progress"):
        outcome.event("status")

    wrong = await testing.run(defined(publish, events={"progress": str}))
    assert isinstance(wrong.error, AuthoringError)
    assert wrong.status == Status.FAILED


@pytest.mark.parametrize("key", ["$end", "a/b", "", 5])
async def test_keys_that_are_no_good_are_refused_at_the_call(key):
    async def publish(ctx: Context) -> None:
        await ctx.set_event(key, 1)

    assert isinstance((await run(publish)).error, AuthoringError)


async def test_events_may_be_set_inside_steps_and_their_threads():
    def upload(ctx: Context, count: int) -> int:
        for number in range(count):
            ctx.set_event("progress", number)
        return count

    async def download(ctx: Context) -> str:
        await ctx.set_event("done", True)
        return ctx.idempotency_key

    async def transfer(ctx: Context) -> str:
        await ctx.step(upload, ctx, 2)
        return await ctx.step(download, ctx)

    outcome = await run(transfer, id="job")

    assert outcome.events == [("progress", 0), ("progress", 1), ("done", True)]
    assert outcome.output == "job:2"


async def test_other_durable_calls_inside_a_step_are_refused():
    async def greedy(ctx: Context) -> None:
        await ctx.sleep(1)

    async def nested(ctx: Context) -> None:
        await ctx.step(greedy, ctx)

    error = (await run(nested)).error

    assert isinstance(error, StepFailed)
    assert error.type == "AuthoringError"


async def test_the_workflows_own_context_is_of_no_use_in_a_step():
    async def nested(ctx: Context) -> None:
        await ctx.step(lambda: ctx.set_event("a", 1))

    error = (await run(nested)).error

    assert isinstance(error, StepFailed)
    assert "pass the context to it" in error.message


async def test_a_wait_that_is_not_durable_is_told():
    async def nap(ctx: Context) -> None:
        await asyncio.sleep(10)

    with pytest.raises(AuthoringError, match="not a durable call"):
        await run(nap)


async def test_messages_are_received_in_order_by_topic():
    async def listen(ctx: Context) -> list[Any]:
        return [await ctx.receive("a"), await ctx.receive("b"), await ctx.receive("a", timeout=1)]

    assert (await run(listen, messages={"a": [1, None], "b": [{"x": 2}]})).output == [1, {"x": 2}, None]


async def test_a_wait_for_a_message_times_out():
    async def listen(ctx: Context) -> str:
        try:
            await ctx.receive("payment", timeout=3_600)
        except TimeoutError:
            return "too late"
        return "paid"

    outcome = await run(listen)
    assert (outcome.output, outcome.elapsed) == ("too late", 3_600)

    outcome = await run(listen, messages={"payment": [Later(60, "card")]})
    assert (outcome.output, outcome.elapsed) == ("paid", 60)

    assert (await run(listen, messages={"payment": [Later(4_000, "card")]})).output == "too late"


async def test_a_wait_for_what_can_not_come_is_told():
    async def listen(ctx: Context) -> None:
        await ctx.receive("payment")

    with pytest.raises(AuthoringError, match=r"wait for ever: receive\('payment'\)"):
        await run(listen)


async def test_branches_run_side_by_side():
    async def branch(ctx: Context, seconds: float) -> float:
        await ctx.sleep(seconds)
        return (await ctx.step(lambda: seconds)) * 2

    async def fan_out(ctx: Context) -> list[float]:
        return await asyncio.gather(*(branch(ctx, seconds) for seconds in (3.0, 1.0, 2.0)))

    outcome = await run(fan_out)

    assert (outcome.output, outcome.elapsed) == ([6.0, 2.0, 4.0], 3)
    assert [step.output for step in outcome.steps] == [1.0, 2.0, 3.0]


async def test_the_loser_of_a_race_is_put_away():
    async def race(ctx: Context) -> str:
        branches = [asyncio.ensure_future(ctx.receive("go")), asyncio.ensure_future(ctx.sleep(5))]
        done, _ = await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
        return "slept" if branches[1] in done else "went"

    assert (await run(race)).output == "slept"
    assert (await run(race, messages={"go": [Later(1, None)]})).output == "went"


async def test_messages_to_others_are_recorded_and_to_itself_delivered():
    async def talk(ctx: Context) -> Any:
        await ctx.send("other", "hello", {"a": 1})
        await ctx.send(ctx.workflow_id, "note", "mine")
        return await ctx.receive("note")

    outcome = await run(talk, id="me")

    assert outcome.output == "mine"
    assert outcome.sent == [SentMessage("other", "hello", {"a": 1}), SentMessage("me", "note", "mine")]


async def test_events_of_others_are_what_the_test_says():
    async def look(ctx: Context, key: str) -> Any:
        return await ctx.get_event("order", key, timeout=10)

    events = {"order": {"url": "https://…", "soon": Later(5, 1), "late": Later(11, 1), "bad": OSError("x")}}

    assert (await run(look, "url", events=events)).output == "https://…"
    assert (await run(look, "soon", events=events)).output == 1
    assert isinstance((await run(look, "late", events=events)).error, TimedOut)
    assert isinstance((await run(look, "other", events=events)).error, EventNeverSet)
    assert isinstance((await run(look, "bad", events=events)).error, OSError)
    assert isinstance((await run(look, "url")).error, WorkflowNotFound)


async def test_a_workflow_may_wait_for_an_event_of_its_own():
    async def own(ctx: Context) -> Any:
        async def later() -> None:
            await ctx.sleep(1)
            ctx.set_event("ready", "yes")

        return (await asyncio.gather(ctx.get_event(ctx.workflow_id, "ready"), later()))[0]

    assert (await run(own)).output == "yes"


async def test_children_end_as_the_test_says():
    registry = Registry()

    @workflow(registry=registry)
    async def ship(ctx: Context, order: Order) -> Payment:
        raise AssertionError("only its definition is used")

    async def parent(ctx: Context) -> Any:
        handle = await ctx.start(ship, Order("A1"), id="ship-1")
        return await handle.result(timeout=60)

    outcome = await run(parent, children={ship: Payment("p")})
    assert outcome.output == {"id": "p"}
    assert outcome.children == [StartedChild("ship-1", "ship", {"sku": "A1", "quantity": 1})]

    assert (await run(parent, children={"ship": lambda order: Payment(order["sku"])})).output == {"id": "A1"}
    assert isinstance((await run(parent, children={ship: Later(61, Payment("p"))})).error, TimedOut)

    error = (await run(parent, children={ship: OSError("sunk")})).error
    assert isinstance(error, ChildFailed)
    assert (error.workflow_id, error.status, error.error["message"]) == ("ship-1", "FAILED", "sunk")

    assert isinstance((await run(parent)).error, AuthoringError)


async def test_a_child_can_be_named_watched_and_cancelled():
    async def parent(ctx: Context) -> Any:
        handle = await ctx.start("ship", {"sku": "A1"}, id="ship-1")
        value = await handle.get_event("progress")
        await handle.cancel()
        return value

    outcome = await run(parent, events={"ship-1": {"progress": 5}})

    assert (outcome.output, outcome.cancelled) == (5, ["ship-1"])


async def test_a_childs_input_is_judged_at_its_start():
    child = defined(create_and_pay)

    async def parent(ctx: Context) -> None:
        await ctx.start(child, {"quantity": 2})

    assert isinstance((await run(parent)).error, AuthoringError)


async def create_and_pay(ctx: Context, order: Order) -> None: ...


async def test_requests_are_answered_by_the_test_and_carry_the_key_of_their_step():
    async def fetch(ctx: Context) -> str:
        response = await ctx.http.post("https://provider.test/payments", json={"amount": 5})
        return response.json()["key"]

    async def pay(ctx: Context) -> str:
        return await ctx.step(fetch, ctx)

    def provider(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json={"key": request.headers["Idempotency-Key"]})

    assert (await run(pay, id="order", http=provider)).output == "order:1"
    assert "http" in str((await run(pay)).error)


async def test_requests_outside_a_step_are_refused():
    async def eager(ctx: Context) -> None:
        await ctx.http.get("https://provider.test")

    assert isinstance((await run(eager)).error, AuthoringError)


async def test_a_transaction_gets_the_tests_connection():
    async def take(connection: list[str], sku: str) -> int:
        connection.append(sku)
        return len(connection)

    async def stock(ctx: Context) -> int:
        return await ctx.transaction(take, "A1")

    connection: list[str] = []

    assert (await run(stock, connection=connection)).output == 1
    assert connection == ["A1"]


async def test_durable_calls_inside_a_transaction_are_refused():
    async def publish(connection: Any, ctx: Context) -> None:
        await ctx.set_event("a", 1)

    async def stock(ctx: Context) -> None:
        await ctx.transaction(publish, ctx)

    error = (await run(stock)).error

    assert isinstance(error, StepFailed)
    assert error.type == "AuthoringError"


async def test_chance_and_callbacks_are_the_same_in_each_run():
    async def roll(ctx: Context) -> list[Any]:
        return [ctx.random.random(), str(ctx.uuid()), await ctx.callback("payment")]

    one, other = await run(roll), await run(roll)

    assert one.output == other.output
    assert one.callbacks == {one.output[2]: "payment"}


async def test_a_workflow_that_outlives_its_timeout_is_timed_out():
    seen: list[str] = []

    async def slow(ctx: Context) -> None:
        try:
            await ctx.receive("never")
        except Exception:
            seen.append("swallowed")

    outcome = await testing.run(defined(slow, timeout=60))

    assert (outcome.status, outcome.elapsed, seen) == (Status.TIMED_OUT, 60, [])
    assert isinstance(outcome.error, TimedOut)


async def test_the_output_is_held_to_its_annotation():
    async def wrong(ctx: Context) -> int:
        return "x"  # type: ignore[return-value]

    assert isinstance((await run(wrong)).error, AuthoringError)
