"""Cost against rows: the same requests to a service with few workflows in its tables, and to one with very many."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

from tests.bench.contestants.base import Place
from tests.bench.generator import START
from tests.bench.scale.base import Bench, Figures, bench, timed
from tests.support.waiting import eventually_sync
from tests.support.wire import wires

FEW = 10_000
ASKED = 200
DATABASE_TIME = """
    select coalesce(sum(total_exec_time), 0)
    from pg_stat_statements s join pg_database d on d.oid = s.dbid
    where d.datname = current_database() and s.userid::regrole::text <> current_user
"""
ENDED = "select status = 'SUCCEEDED' from workflows where id = 'pattern'"

Request = tuple[str, str, Any]

REQUESTS: dict[str, Callable[[int], Request]] = {
    "start": lambda _: ("POST", "/workflows", START),
    "read of an event": lambda number: ("GET", f"/workflows/old-{37 * number + 1}/events/payment_url?timeout=25", None),
    "page of the list": lambda _: ("GET", "/workflows?limit=20", None),
    "claim": lambda _: ("POST", "/workflows?wait_for_result=true&timeout=25", {**START, "delay": 0.01}),
}


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """Against `size` workflows; one service after the other, in each repetition."""
    figures: Figures = {}
    with ExitStack() as running:
        few, many = (running.enter_context(bench(place, f"scale_{name}")) for name in ("few", "many"))
        for filled, count in ((few, FEW), (many, size)):
            asyncio.run(_start(filled))
            eventually_sync(partial(filled.ask, ENDED))
            filled.copy("pattern", count, "old-")
            asyncio.run(_series(filled, "start"))
        for _ in range(repetitions):
            for what in REQUESTS:
                seen = [asyncio.run(_series(filled, what)) for filled in (few, many)]
                for name, (a_few, a_lot) in zip(("ms", "ms in the database"), zip(*seen, strict=True), strict=True):
                    figures.setdefault(f"{what}: {name}, {FEW:,} rows", []).append(a_few)
                    figures.setdefault(f"{what}: {name}, {size:,} rows", []).append(a_lot)
                    figures.setdefault(f"{what}: {name}, ratio", []).append(a_lot / a_few)
    return figures


async def _start(filled: Bench) -> None:
    async with wires(filled.service.url, 1) as (wire,):
        await timed(wire, "POST", "/workflows?wait_for_result=true", {**START, "id": "pattern"})


async def _series(filled: Bench, what: str) -> tuple[float, float]:
    """Of one request: milliseconds for the client, most often, and in the database, on average."""
    async with wires(filled.service.url, 1) as (wire,):
        before = filled.ask(DATABASE_TIME)
        took = [await timed(wire, *REQUESTS[what](number)) for number in range(ASKED)]
        return median(took), (filled.ask(DATABASE_TIME) - before) / ASKED
