"""The checkout that is measured: two steps and one event, with nothing outside that takes time. And what else is."""

import time
from typing import Any

from app import Context, workflow


@workflow(events={"payment_url": str})
async def purchase(ctx: Context, order: dict[str, Any]) -> str:
    payment = await ctx.step(create_payment, order)
    await ctx.set_event("payment_url", payment)
    return await ctx.step(confirm, payment)


async def create_payment(order: dict[str, Any]) -> str:
    return f"https://pay.example/{order['sku']}"


async def confirm(payment: str) -> str:
    return "confirmed"


@workflow
async def answer(ctx: Context) -> None:
    """Waits to be asked, then publishes the answer."""
    await ctx.set_event("answer", await ctx.receive("question"))


@workflow(events={"value": Any})
async def carry(ctx: Context, value: Any) -> None:
    """Publishes what it was given."""
    await ctx.set_event("value", value)


@workflow
async def dawdle(ctx: Context) -> None:
    """Holds a thread for a second."""
    await ctx.step(sleep_in_a_thread)


def sleep_in_a_thread() -> None:
    time.sleep(1)
