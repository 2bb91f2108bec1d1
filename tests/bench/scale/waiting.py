"""Clients that wait: what a held request costs, and how soon all are answered."""

import asyncio
import resource
import time

from tests.bench.contestants.base import Place
from tests.bench.scale.base import Bench, Figures, bench, note, timed
from tests.support.crowd import crowd, megabytes
from tests.support.waiting import eventually
from tests.support.wire import wires

ASKED = 100
IDLE = 10.0


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """`size` long polls of a hundred workflows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * size + 1000), hard))
    figures: Figures = {}
    for number in range(repetitions):
        with bench(place) as held:
            note(figures, asyncio.run(_hold(held, size, f"asked-{number}")))
    return figures


async def _hold(held: Bench, size: int, prefix: str) -> dict[str, float]:
    ids = [f"{prefix}-{number}" for number in range(ASKED)]
    async with wires(held.service.url, 1) as (wire,):
        for id in ids:
            await timed(wire, "POST", "/workflows", {"name": "answer", "id": id})
        with crowd(held.service) as clients:
            memory, connections = megabytes(held.service), held.connections()
            for id in ids:
                await clients.ask(size // ASKED, f"/workflows/{id}/events/answer?timeout=600")
            # What was sent before has been read when this is answered.
            for id in ids:
                await timed(wire, "GET", f"/workflows/{id}")
            figures = {"KiB of memory each": 1024 * (megabytes(held.service) - memory) / size}
            await asyncio.sleep(2)  # the first looks are over
            (before, _), statements, began = held.cpu(), held.statements(), time.monotonic()
            await asyncio.sleep(IDLE)
            took = time.monotonic() - began
            figures["% of a processor while nothing happens"] = 100 * (held.cpu()[0] - before) / took
            figures["statements/s while nothing happens"] = (held.statements() - statements) / took
            figures["database connections that they hold"] = max(0, held.connections() - connections)
            began = time.monotonic()
            for id in ids:
                await timed(wire, "POST", f"/workflows/{id}/messages", {"topic": "question", "payload": "why"})
            await eventually(lambda: clients.answered() == size, timeout=60)
            figures["s until all are answered"] = time.monotonic() - began
    return figures
