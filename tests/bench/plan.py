"""The rounds: in each, every contestant is started, warmed, measured with so many clients, and ended again.

So that nobody else's idle work is counted with a contestant's, one runs at a time; the order turns from round to
round. A figure is only compared with those of its own round.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.bench import contestants, generator, machine
from tests.bench.contestants.base import Contestant, Count, Place
from tests.bench.limits import Limits
from tests.bench.postgres import Postgres
from tests.support.waiting import eventually_sync

CUTS = 100
SHAPES = (1, 32)
"""With how many clients the whole distribution of latencies is kept."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    seconds: int
    clients: Sequence[int]
    only: Sequence[str] = ()
    """Names of contestants; all when there are none."""

    @property
    def contestants(self) -> list[type[Contestant]]:
        return [kind for kind in contestants.ALL if not self.only or kind.name in self.only]


def run(plan: Plan, folder: Path, postgres: Postgres, tell: Callable[[str], None], keep: Callable[[Row], None]) -> None:
    """Hands each figure to `keep` as soon as there is one."""
    limits = None if plan.only else Limits(postgres, folder / "limits")
    for number in range(plan.rounds):
        order = list(plan.contestants)
        random.Random(number).shuffle(order)
        for kind in order:
            place = Place(folder / kind.name.replace(",", "").replace(" ", "-"), postgres)
            with kind(place) as contestant:
                for script in kind.scripts.values():
                    generator.run(contestant.url, script, 4, 1)
                for clients in plan.clients:
                    for scenario in kind.scripts:
                        row = measure(contestant, scenario, clients, plan.seconds)
                        keep({"round": number, **row})
                        tell(f"round {number + 1}: {clients:>2} × {kind.name}, {scenario}: {row['rate']:,.0f}/s")
        if limits:
            keep({"round": number, "limits": limits.measure(plan.seconds)})


def measure(contestant: Contestant, scenario: str, clients: int, seconds: int) -> Row:
    settled(contestant, time.time() - 60)
    before = spent(contestant)
    load = generator.run(contestant.url, contestant.scripts[scenario], clients, seconds)
    settled(contestant, load.began)
    after = spent(contestant)
    count = contestant.count(load.began, load.ended) or Count(len(load.latencies), len(load.latencies), 0)
    assert count.started >= len(load.latencies), f"{contestant.name} has lost workflows"
    assert len(load.latencies) > 1, f"{contestant.name} finished next to nothing"
    cuts = quantiles(load.latencies, n=CUTS)
    return {
        "contestant": contestant.name,
        "scenario": scenario,
        "clients": clients,
        "seconds": load.seconds,
        "answers": len(load.latencies),
        "started": count.started,
        "rate": count.finished / load.seconds,
        "p50": cuts[CUTS // 2 - 1],
        "p99": cuts[round(CUTS * 0.99) - 1],
        **({"quantiles": cuts} if clients in SHAPES else {}),
        # A checkout's share of what was spent until the last of them had finished.
        **{what: 1000 * (after[what] - before[what]) / count.started for what in after if what.startswith("cpu ")},
        **{what: (after[what] - before[what]) / count.started for what in after if not what.startswith("cpu ")},
        "generator": load.cpu / load.seconds,
    }


def settled(contestant: Contestant, began: float) -> None:
    """Wait until all has finished that was started."""

    def done() -> bool:
        count = contestant.count(began, began)
        return count is None or not count.unfinished

    eventually_sync(done, timeout=120, message=f"{contestant.name}: workflows that do not finish")


def spent(contestant: Contestant) -> dict[str, float]:
    """Seconds of processor time by part, and what the database was asked and wrote, from the beginning."""
    parts = {f"cpu {part}": machine.cpu(pid) for part, pid in contestant.processes().items()}
    if contestant.database is None:
        return parts
    postgres = contestant.place.postgres
    statements, journal = postgres.statements(contestant.database)
    told = {"statements": float(statements), "journal": float(journal), "written": float(postgres.written())}
    return {**parts, "cpu database": machine.cpu(postgres.pid), **told}
