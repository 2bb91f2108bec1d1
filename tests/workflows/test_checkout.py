"""The checkout's own way, in virtual time; `test_examples` runs it over HTTP."""

import json

import httpx
import pytest

from app import StepFailed, testing
from app.authoring.testing import Later
from app.model import Status
from app.workflows.checkout import (
    CheckoutStatus,
    Order,
    Payment,
    Receipt,
    checkout,
    create_payment,
    release,
    release_checkout,
    reserve,
    sell,
)

PAYMENT = Payment(id="p1", url="https://provider.test/p1")


async def run(order: Order | None = None, **script):
    steps = {create_payment: PAYMENT, reserve: 1999, release: True, sell: None, **script.pop("steps", {})}
    return await testing.run(checkout, order or Order(sku="A1"), id="order-1", steps=steps, **script)


async def test_a_paid_order_is_dispatched():
    outcome = await run(messages={"payment": [Later(60, {"status": "paid"})]})

    receipt = outcome.output
    assert (receipt.status, receipt.amount, receipt.payment_id) == (CheckoutStatus.SHIPPED, 1999, "p1")
    assert receipt.tracking.startswith("MP-")
    assert outcome.event("payment_url") == "https://provider.test/p1"
    assert outcome.log("status") == ["reserved", "awaiting_payment", "paid", "shipped"]
    assert outcome.log("progress") == [0, 25, 50, 75, 100]
    assert "release" not in [step.name for step in outcome.steps]


@pytest.mark.parametrize("payload", [{"status": "declined"}, {}, None, "paid", ["paid"]])
async def test_a_declined_order_gives_its_stock_back(payload):
    outcome = await run(messages={"payment": [payload]})

    assert outcome.output == Receipt(status=CheckoutStatus.DECLINED, amount=1999, payment_id="p1")
    assert [step.args for step in outcome.steps if step.name == "release"] == [("order-1",)]
    assert outcome.log("progress") == []


async def test_an_order_that_is_not_paid_in_time_gives_its_stock_back():
    outcome = await run(Order(sku="A1", pay_within=600))

    assert outcome.elapsed == 600
    assert outcome.output.status == CheckoutStatus.EXPIRED
    assert [step.name for step in outcome.steps][-1] == "release"


async def test_without_stock_no_payment_is_made():
    outcome = await run(steps={reserve: None})

    assert outcome.output == Receipt(status=CheckoutStatus.OUT_OF_STOCK)
    assert [step.name for step in outcome.steps] == ["reserve"]
    assert outcome.log("status") == ["out_of_stock"]


async def test_the_provider_gets_the_callback_and_the_same_key_in_each_try():
    requests: list[httpx.Request] = []

    def provider(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if len(requests) == 1:
            raise httpx.ConnectError("no route")
        if len(requests) == 2:
            return httpx.Response(503)
        return httpx.Response(201, json={"id": "p2", "url": "https://provider.test/p2"})

    steps = {reserve: 3998, sell: None}
    script = {"payment": [{"status": "paid"}]}
    outcome = await testing.run(checkout, Order(sku="A1", quantity=2), steps=steps, messages=script, http=provider)

    assert outcome.output.payment_id == "p2"
    assert {request.headers["Idempotency-Key"] for request in requests} == {"test:3"}
    assert {str(request.url) for request in requests} == {"http://milepost.test/examples/provider/payments"}
    body = json.loads(requests[-1].content)
    assert (body["amount"], outcome.callbacks[body["callback_url"]]) == (3998, "payment")


async def test_a_provider_that_refuses_is_not_asked_again():
    outcome = await testing.run(
        checkout, Order(sku="A1"), steps={reserve: 1999}, http=lambda request: httpx.Response(422, text="no such shop")
    )

    assert outcome.status == Status.FAILED
    assert isinstance(outcome.error, StepFailed)
    assert (outcome.error.type, outcome.error.attempts, outcome.error.details) == ("Fatal", 1, "no such shop")


async def test_a_checkout_that_was_broken_off_gives_its_stock_back():
    aborted = {"workflow_id": "order-1", "status": "CANCELLED", "input": {"sku": "A1"}}

    outcome = await testing.run(release_checkout, aborted, steps={release: True})

    assert outcome.output is True
    assert outcome.event("released") is True
    assert outcome.steps[0].args == ("order-1",)
