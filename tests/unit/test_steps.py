import asyncio
import functools
from dataclasses import dataclass
from typing import Any

import pytest

from app import AuthoringError, Context, Fatal, Registry, Retry, TimedOut, step, workflow
from app.authoring import steps
from app.errors import Aborted


@dataclass
class Payment:
    id: str


@step(retry=Retry(attempts=3, delay=0.5), timeout=10, name="charge")
async def create_payment(amount: int) -> Payment:
    return Payment(str(amount))


def reserve(sku: str) -> int:
    return 1


class Shop:
    @step(timeout=2)
    def open(self) -> bool:
        return True

    async def __call__(self, name: str) -> str:
        return name


async def test_a_step_is_a_plain_function():
    assert await create_payment(5) == Payment("5")


def test_the_spec_is_what_was_declared():
    spec = steps.spec(create_payment)

    assert (spec.name, spec.retry.attempts, spec.timeout, spec.is_async) == ("charge", 3, 10, True)
    assert spec.output.decode('{"id":"1"}') == Payment("1")


def test_an_undecorated_function_is_a_step_of_one_try():
    spec = steps.spec(reserve)

    assert (spec.name, spec.retry.attempts, spec.timeout, spec.is_async) == ("reserve", 1, None, False)
    assert spec.output.encode(3) == "3"


def test_methods_partials_lambdas_and_callable_objects_are_steps():
    assert (steps.spec(Shop().open).name, steps.spec(Shop().open).timeout) == ("open", 2)
    assert steps.spec(functools.partial(create_payment, 5)) is steps.spec(create_payment)
    assert steps.spec(lambda: 1).name == "<lambda>"
    assert (steps.spec(Shop()).name, steps.spec(Shop()).is_async) == ("Shop", True)
    assert steps.spec(len).name == "len"


def test_a_wrapper_has_a_spec_of_its_own():
    steps.spec(reserve)

    @functools.wraps(reserve)
    async def wrapper(sku: str) -> int:
        return reserve(sku)

    assert steps.spec(wrapper).is_async
    assert not steps.spec(reserve).is_async


def test_the_spec_is_made_once():
    assert steps.spec(reserve) is steps.spec(reserve)


def test_only_the_result_of_a_step_must_have_a_type_that_can_be_found():
    def store(connection: "Unknown") -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    def lost() -> "Unknown":  # type: ignore[name-defined]  # noqa: F821
        return 1

    assert steps.spec(store).output.encode(1) == "1"
    with pytest.raises(AuthoringError, match=r"result of .*lost"):
        steps.spec(lost)


def generator():
    yield 1


@pytest.mark.parametrize("thing", [generator, Payment, "reserve"])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(AuthoringError):
        step(thing)
    with pytest.raises(AuthoringError):
        steps.spec(thing)


def test_a_workflow_is_not_a_step():
    @workflow(registry=Registry())
    async def child(ctx: Context) -> None: ...

    with pytest.raises(AuthoringError, match=r"ctx\.start"):
        steps.spec(child)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1}, {"retry": 3}, {"name": ""}, {"name": "a\n"}])
def test_options_are_judged_when_the_step_is_defined(options):
    with pytest.raises(AuthoringError):
        step(**options)


@pytest.mark.parametrize(
    "numbers",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"delay": -1},
        {"delay": float("nan")},
        {"backoff": 0.5},
        {"max_delay": float("inf")},
        {"on": ValueError},
        {"on": ("ValueError",)},
    ],
)
def test_a_retry_of_impossible_numbers_is_refused(numbers):
    with pytest.raises(AuthoringError):
        Retry(**numbers)


def test_waits_are_spread_below_a_limit_that_grows_to_max_delay():
    retry = Retry(attempts=9, delay=2, backoff=3, max_delay=10)

    assert [retry.wait(attempt, lambda: 1.0) for attempt in (1, 2, 3, 4)] == [2, 6, 10, 10]
    assert retry.wait(2, lambda: 0.5) == 3
    assert retry.wait(2, lambda: 0.0) == 0
    assert retry.wait(10**9, lambda: 1.0) == 10
    assert Retry(delay=0).wait(5_000, lambda: 1.0) == 0


def test_a_retry_counts_the_first_try_and_looks_at_the_kind_of_error():
    retry = Retry(attempts=3, on=(OSError, TimedOut))

    assert retry.retries(ConnectionError(), 1)
    assert retry.retries(TimedOut(), 2)
    assert not retry.retries(ConnectionError(), 3)
    assert not retry.retries(ValueError(), 1)


def test_errors_that_would_only_come_again_are_not_retried():
    retry = Retry(attempts=3, on=(BaseException,))

    assert not any(retry.retries(error, 1) for error in (Fatal("no"), AuthoringError("bad result"), Aborted()))


def test_a_cancelled_step_is_not_one_that_failed():
    assert not Retry(attempts=3).retries(asyncio.CancelledError(), 1)


async def typed(ctx: Context, connection: Any) -> None:
    """Checked by the type checker alone: what a step returns is what awaiting it gives."""
    payment = await ctx.step(create_payment, 5)
    payment.id.upper()
    count = await ctx.step(reserve, "A1")
    count.bit_length()
