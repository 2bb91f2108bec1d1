"""Values as large as they may be: how much of them goes through, and what that does to small ones."""

import asyncio
import time

from tests.bench.contestants.base import Place
from tests.bench.generator import START
from tests.bench.scale.base import Bench, Figures, bench, cut, note, timed
from tests.support.wire import wires

CLIENTS = 4
SECONDS = 5.0
PAYMENT = "/workflows?wait_for=payment_url&timeout=25"


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """Values of `size` bytes, each through a start, an event and its read."""
    figures: Figures = {}
    with bench(place) as service:
        for _ in range(repetitions):
            alone, _ = asyncio.run(_both(service, 0, size))
            beside, carried = asyncio.run(_both(service, CLIENTS, size))
            told = {
                "MB/s of values through start, event and read": carried * size / SECONDS / 1e6,
                "small ones alone, p99 ms": cut(alone, 99),
                "small ones beside them, p99 ms": cut(beside, 99),
                "p99 beside them to alone, ratio": cut(beside, 99) / cut(alone, 99),
            }
            note(figures, told)
    return figures


async def _both(service: Bench, clients: int, size: int) -> tuple[list[float], int]:
    """Milliseconds of the small ones, and how many large values came through beside them."""
    value = "x" * (size - 2)
    until = time.monotonic() + SECONDS
    took, carried = list[float](), 0
    async with wires(service.service.url, clients + 1) as (small, *large):

        async def carry(number: int) -> None:
            nonlocal carried
            wire = large[number]
            while time.monotonic() < until:
                id = f"carry-{time.time_ns()}-{number}"
                await timed(wire, "POST", "/workflows", {"name": "carry", "id": id, "input": value})
                await timed(wire, "GET", f"/workflows/{id}/events/value?timeout=25")
                carried += 1

        carriers = [asyncio.create_task(carry(number)) for number in range(clients)]
        while time.monotonic() < until:
            took.append(await timed(small, "POST", PAYMENT, START))
        await asyncio.gather(*carriers)
    return took, carried
