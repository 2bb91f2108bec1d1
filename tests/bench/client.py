"""The customers, in a process of their own: `python -m tests.bench.client URL SCENARIO CLIENTS SECONDS`.

Each has one connection, and orders again as soon as it has what it wanted. Prints one line of JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles

import uvloop

from tests.support.wire import Wire, wires

ORDER = {"name": "purchase", "input": {"sku": "A1", "quantity": 2, "address": "1 Long Street, 12345 Harbour"}}


async def echo(wire: Wire) -> None:
    answer = await wire.ask("POST", "/echo", ORDER)
    assert answer.status == 200, answer.body


async def start(wire: Wire) -> None:
    answer = await wire.ask("POST", "/workflows", ORDER)
    assert answer.status == 201, answer.body


async def two_requests(wire: Wire) -> None:
    answer = await wire.ask("POST", "/workflows", ORDER)
    assert answer.status == 201, answer.body
    answer = await wire.ask("GET", f"/workflows/{answer.json['id']}/events/payment_url?timeout=25")
    assert answer.status == 200, answer.body


async def one_request(wire: Wire) -> None:
    answer = await wire.ask("POST", "/workflows?wait_for=payment_url&timeout=25", ORDER)
    assert answer.status == 201, answer.body
    assert b'"set"' in answer.body


SCENARIOS: dict[str, Callable[[Wire], Awaitable[None]]] = {
    "echo": echo,
    "start": start,
    "two requests": two_requests,
    "one request": one_request,
}


async def order(url: str, scenario: str, clients: int, seconds: float) -> dict[str, float]:
    do, latencies = SCENARIOS[scenario], list[float]()

    async def customer(wire: Wire, until: float) -> None:
        while (began := time.perf_counter()) < until:
            await do(wire)
            latencies.append(time.perf_counter() - began)

    async with wires(url, clients) as connections:
        await asyncio.gather(*(do(wire) for wire in connections))
        began = time.perf_counter()
        await asyncio.gather(*(customer(wire, began + seconds) for wire in connections))
        took = time.perf_counter() - began
    cuts = quantiles(latencies, n=100)
    return {
        "done": clients + len(latencies),
        "rate": len(latencies) / took,
        "p50": 1000 * cuts[49],
        "p99": 1000 * cuts[98],
    }


if __name__ == "__main__":
    _, url, scenario, clients, seconds = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(order(url, scenario, int(clients), float(seconds)))))
