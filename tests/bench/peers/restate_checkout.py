"""The checkout on Restate: `python restate_checkout.py PORT`, which its server calls by HTTP/2."""

import asyncio
import sys
from typing import Any

import hypercorn.asyncio
import restate
import uvloop

purchase = restate.Workflow("purchase")


def create_payment(order: dict[str, Any]) -> str:
    return f"https://pay.example/{order['sku']}"


def confirm(payment: str) -> str:
    return "confirmed"


@purchase.main()
async def run(ctx: restate.WorkflowContext, order: dict[str, Any]) -> str:
    payment = await ctx.run_typed("create_payment", create_payment, order=order)
    await ctx.promise("payment_url", type_hint=str).resolve(payment)
    return await ctx.run_typed("confirm", confirm, payment=payment)


@purchase.handler()
async def payment_url(ctx: restate.WorkflowSharedContext) -> str:
    return await ctx.promise("payment_url", type_hint=str).value()


if __name__ == "__main__":
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.loglevel = "WARNING"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hypercorn.asyncio.serve(restate.app([purchase]), config))
