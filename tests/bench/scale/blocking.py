"""Steps that hold threads: what two hundred of them do to reads of events."""

import asyncio
import time

from tests.bench.contestants.base import Place
from tests.bench.generator import START
from tests.bench.scale.base import Bench, Figures, bench, cut, note, timed
from tests.support.wire import wires

SECONDS = 4.0


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """`size` steps of one second each, begun at once."""
    figures: Figures = {}
    with bench(place) as service:
        asyncio.run(_start(service))
        for _ in range(repetitions):
            alone, beside = (asyncio.run(_read(service, steps)) for steps in (0, size))
            told = {
                "reads alone, p99 ms": cut(alone, 99),
                "reads beside them, p99 ms": cut(beside, 99),
                "p99 beside them to alone, ratio": cut(beside, 99) / cut(alone, 99),
            }
            note(figures, told)
    return figures


async def _start(service: Bench) -> None:
    async with wires(service.service.url, 1) as (wire,):
        await timed(wire, "POST", "/workflows?wait_for_result=true", {**START, "id": "read"})


async def _read(service: Bench, steps: int) -> list[float]:
    async with wires(service.service.url, steps + 1) as (reader, *starters):
        ended = [
            asyncio.create_task(timed(wire, "POST", "/workflows?wait_for_result=true", {"name": "dawdle"}))
            for wire in starters
        ]
        until, took = time.monotonic() + SECONDS, list[float]()
        while time.monotonic() < until:
            took.append(await timed(reader, "GET", "/workflows/read/events/payment_url?timeout=25"))
            await asyncio.sleep(0.002)
        await asyncio.gather(*ended)
    return took
