"""An order from reservation to dispatch: the model of a workflow that waits for somebody outside.

    reserve stock ─► create payment ─► wait for the provider's callback ─┬─ paid ─────► dispatch ─► shipped
                                                                         ├─ declined ─► release stock
                                                                         └─ too late ─► release stock
    cancelled from outside, at any point: `release_checkout` is started, and releases the stock

The stock is a table of the example's own, in the same database. It is changed by `ctx.transaction`,
so each change and the record that it was made are one commit, and no crash makes it twice.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel, Field

from app import Context, Fatal, Retry, TimedOut, step, workflow

if TYPE_CHECKING:
    from psycopg import AsyncConnection

DISPATCH = ("picked", "packed", "labelled", "handed over")


class CheckoutStatus(StrEnum):
    RESERVED = "reserved"
    AWAITING_PAYMENT = "awaiting_payment"
    PAID = "paid"
    SHIPPED = "shipped"
    OUT_OF_STOCK = "out_of_stock"
    DECLINED = "declined"
    EXPIRED = "expired"


class Order(BaseModel):
    sku: str = Field(min_length=1, max_length=64)
    quantity: int = Field(default=1, ge=1, le=1000)
    pay_within: float = Field(default=3600, gt=0, le=604_800, description="seconds until it is too late to pay")


class Payment(BaseModel):
    id: str
    url: str


class Receipt(BaseModel):
    status: CheckoutStatus
    amount: int | None = Field(default=None, description="in cents")
    payment_id: str | None = None
    tracking: str | None = None


class Aborted(BaseModel):
    """What a workflow given as `on_abort` is started with."""

    workflow_id: str
    status: str
    input: Order


@workflow(events={"released": bool})
async def release_checkout(ctx: Context, aborted: Aborted) -> bool:
    """Put the stock of a checkout that was broken off back on the shelf."""
    released = await ctx.transaction(release, aborted.workflow_id)
    await ctx.set_event("released", released)
    return released


@workflow(events={"payment_url": str, "status": CheckoutStatus, "progress": int}, on_abort=release_checkout)
async def checkout(ctx: Context, order: Order) -> Receipt:
    """Take an order: reserve the stock, wait for the payment, dispatch."""
    amount = await ctx.transaction(reserve, ctx.workflow_id, order)
    if amount is None:
        return await conclude(ctx, Receipt(status=CheckoutStatus.OUT_OF_STOCK))
    ctx.set_event("status", CheckoutStatus.RESERVED)

    # It expires no later than the wait below ends: a payment is either received or refused.
    callback_url = await ctx.callback("payment", expires=order.pay_within)
    payment = await ctx.step(create_payment, ctx, order, amount, callback_url)
    ctx.set_event("payment_url", payment.url)
    ctx.set_event("status", CheckoutStatus.AWAITING_PAYMENT)

    status = await settle(ctx, order)
    if status is not CheckoutStatus.PAID:
        await ctx.transaction(release, ctx.workflow_id)
        return await conclude(ctx, Receipt(status=status, amount=amount, payment_id=payment.id))

    ctx.set_event("status", CheckoutStatus.PAID)
    tracking = await dispatch(ctx, order)
    return await conclude(
        ctx, Receipt(status=CheckoutStatus.SHIPPED, amount=amount, payment_id=payment.id, tracking=tracking)
    )


async def settle(ctx: Context, order: Order) -> CheckoutStatus:
    """Wait for the provider's word."""
    try:
        notice = await ctx.receive("payment", timeout=order.pay_within)
    except TimedOut:
        return CheckoutStatus.EXPIRED
    paid = isinstance(notice, dict) and notice.get("status") == "paid"
    return CheckoutStatus.PAID if paid else CheckoutStatus.DECLINED


async def dispatch(ctx: Context, order: Order) -> str:
    """Each part is a step of its own: after a crash the parcel is not packed again."""
    ctx.set_event("progress", 0)
    for count, task in enumerate(DISPATCH, start=1):
        await ctx.step(handle_parcel, task, order.sku)
        ctx.set_event("progress", 100 * count // len(DISPATCH))
    await ctx.transaction(sell, ctx.workflow_id)
    return f"MP-{ctx.uuid().hex[:12].upper()}"


async def conclude(ctx: Context, receipt: Receipt) -> Receipt:
    await ctx.set_event("status", receipt.status)
    return receipt


@step(
    retry=Retry(attempts=8, delay=0.2, max_delay=10, on=(httpx.TransportError, httpx.HTTPStatusError)),
    timeout=10,
)
async def create_payment(ctx: Context, order: Order, amount: int, callback_url: str) -> Payment:
    """Ask the provider for a payment. `ctx.http` sends the same Idempotency-Key in every try."""
    response = await ctx.http.post(
        f"{provider_url(callback_url)}/payments",
        json={"amount": amount, "description": f"{order.quantity} of {order.sku}", "callback_url": callback_url},
    )
    if response.is_client_error and response.status_code != httpx.codes.TOO_MANY_REQUESTS:
        raise Fatal(f"the provider refused the payment with {response.status_code}", details=response.text[:1000])
    response.raise_for_status()
    return Payment.model_validate(response.json())


def provider_url(callback_url: str) -> str:
    """The example's provider is served by this service, so it is found where callbacks arrive."""
    return callback_url.rpartition("/callbacks/")[0] + "/examples/provider"


async def handle_parcel(task: str, sku: str) -> str:
    """Stands for an hour's work in a warehouse."""
    await asyncio.sleep(0.1)
    return f"{sku} {task}"


async def reserve(connection: AsyncConnection[Any], workflow_id: str, order: Order) -> int | None:
    """Take stock for an order; the amount to pay in cents, or None when there is not enough."""
    cursor = await connection.execute(
        """
        with taken as (
            update example_stock
            set available = available - %(quantity)s
            where sku = %(sku)s and available >= %(quantity)s
            returning price
        )
        insert into example_reservations (workflow_id, sku, quantity)
        select %(workflow_id)s, %(sku)s, %(quantity)s from taken
        returning (select price from taken)
        """,
        {"workflow_id": workflow_id, "sku": order.sku, "quantity": order.quantity},
    )
    row = await cursor.fetchone()
    return row[0] * order.quantity if row else None


async def release(connection: AsyncConnection[Any], workflow_id: str) -> bool:
    """Give back what a checkout has reserved and not sold; False when there is nothing of it."""
    cursor = await connection.execute(
        """
        with given_back as (
            delete from example_reservations
            where workflow_id = %(workflow_id)s and not sold
            returning sku, quantity
        )
        update example_stock
        set available = available + given_back.quantity
        from given_back
        where example_stock.sku = given_back.sku
        """,
        {"workflow_id": workflow_id},
    )
    return cursor.rowcount > 0


async def sell(connection: AsyncConnection[Any], workflow_id: str) -> None:
    """From here on the stock does not come back."""
    await connection.execute("update example_reservations set sold = true where workflow_id = %s", [workflow_id])


async def prepare(connection: AsyncConnection[Any]) -> None:
    """Make the example's tables, and fill the shelves of a new shop. Replicas may do so at once."""
    await connection.execute("select pg_advisory_xact_lock(hashtext('milepost examples'))")
    await connection.execute(
        """
        create table if not exists example_stock (
            sku text primary key,
            available integer not null check (available >= 0),
            price integer not null
        )
        """
    )
    await connection.execute(
        """
        create table if not exists example_reservations (
            workflow_id text primary key,
            sku text not null references example_stock,
            quantity integer not null,
            sold boolean not null default false
        )
        """
    )
    await connection.execute(
        """
        insert into example_stock (sku, available, price)
        values ('A1', 1000000, 1999), ('B2', 25, 49900), ('C3', 0, 250)
        on conflict (sku) do nothing
        """
    )
