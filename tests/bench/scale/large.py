"""Values as large as they may be: how much of them goes through, and what that does to small ones."""

import asyncio
import multiprocessing
import time
from concurrent.futures import Executor, ProcessPoolExecutor

from tests.bench.contestants.base import Place
from tests.bench.generator import START
from tests.bench.scale import carriers
from tests.bench.scale.base import Bench, Figures, bench, cut, note, timed
from tests.support.wire import wires

CLIENTS = 4
SECONDS = 5.0
PAYMENT = "/workflows?wait_for=payment_url&timeout=25"
ASKED = 30
"""Megabytes of values a second beside which small ones are not to wait."""


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """Values of `size` bytes, each through a start, an event and its read."""
    figures: Figures = {}
    spawn = multiprocessing.get_context("spawn")
    with bench(place) as service, ProcessPoolExecutor(1, mp_context=spawn) as process:
        # The process is there from the first on, and its value is made.
        asyncio.run(_beside(service, process, size, seconds=0.5))
        for _ in range(repetitions):
            alone = asyncio.run(_small(service, time.time() + SECONDS))
            before = service.cpu()
            beside_all, all_there_can_be = asyncio.run(_beside(service, process, size))
            spent = [after - then for after, then in zip(service.cpu(), before, strict=True)]
            beside, as_asked = asyncio.run(_beside(service, process, size, rate=ASKED * 1e6 / size))
            told = {
                "MB/s of values through start, event and read": all_there_can_be * size / SECONDS / 1e6,
                "small ones alone, p99 ms": cut(alone, 99),
                "small ones beside as many as there can be, p99 ms": cut(beside_all, 99),
                f"small ones beside {ASKED} MB/s, p99 ms": cut(beside, 99),
                f"p99 beside {ASKED} MB/s to alone, ratio": cut(beside, 99) / cut(alone, 99),
                f"MB/s, where {ASKED} were sent": as_asked * size / SECONDS / 1e6,
            }
            for where, seconds in zip(("service", "database"), spent, strict=True):
                told[f"ms of a processor for each and its small ones: {where}"] = 1000 * seconds / all_there_can_be
            note(figures, told)
    return figures


async def _beside(
    service: Bench, process: Executor, size: int, *, seconds: float = SECONDS, rate: float | None = None
) -> tuple[list[float], int]:
    """Milliseconds of the small ones, and how many large values came through beside them."""
    until = time.time() + seconds
    arguments = (service.service.url, CLIENTS, size, until, rate)
    carried = asyncio.get_running_loop().run_in_executor(process, carriers.carry, *arguments)
    return await _small(service, until), await carried


async def _small(service: Bench, until: float) -> list[float]:
    took = list[float]()
    async with wires(service.service.url, 1) as (small,):
        while time.time() < until:
            took.append(await timed(small, "POST", PAYMENT, START))
    return took
