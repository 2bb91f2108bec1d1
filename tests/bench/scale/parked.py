"""Workflows that wait outside of memory: what they cost a service, and how soon one of them answers a message."""

import asyncio
import random
import time

from tests.bench.contestants.base import Place
from tests.bench.scale.base import Bench, Figures, bench, cut, timed
from tests.support.crowd import megabytes
from tests.support.waiting import eventually_sync
from tests.support.wire import wires

ASKED = 300
PARKED = "select status = 'WAITING' from workflows where id = 'pattern'"


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """`size` copies of one that waits for a message."""
    with bench(place, LINGER=0.2) as parked:
        asyncio.run(_start(parked))
        eventually_sync(lambda: parked.ask(PARKED))
        without = [_restarted(parked) for _ in range(repetitions)]
        parked.copy("pattern", size, "parked-")
        beside = [_restarted(parked) for _ in range(repetitions)]
        chosen = random.Random(0).sample(range(1, size + 1), min(ASKED * repetitions, size))
        series = [asyncio.run(_ask(parked, chosen[number::repetitions])) for number in range(repetitions)]
    return {
        "s to start the service, with none": [took for took, _ in without],
        "s to start the service, with all": [took for took, _ in beside],
        "MiB of memory, with none": [memory for _, memory in without],
        "MiB of memory, with all": [memory for _, memory in beside],
        "ms from a message to the answer, p50": [cut(took, 50) for took in series],
        "ms from a message to the answer, p99": [cut(took, 99) for took in series],
    }


def _restarted(parked: Bench) -> tuple[float, float]:
    """Seconds until it is ready, and its memory two seconds later."""
    parked.service.terminate()
    began = time.monotonic()
    parked.service.start()
    took = time.monotonic() - began
    time.sleep(2)
    return took, megabytes(parked.service)


async def _start(parked: Bench) -> None:
    async with wires(parked.service.url, 1) as (wire,):
        await timed(wire, "POST", "/workflows", {"name": "answer", "id": "pattern"})


async def _ask(parked: Bench, numbers: list[int]) -> list[float]:
    question = {"topic": "question", "payload": "why"}
    async with wires(parked.service.url, 1) as (wire,):
        paths = [f"/workflows/parked-{number}/messages?wait_for=answer&timeout=25" for number in numbers]
        return [await timed(wire, "POST", path, question) for path in paths]
