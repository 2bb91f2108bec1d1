"""One run: the cluster, the load and the faults together, then the healing, and what is known after it."""

import asyncio
import json
import os
import platform
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from app.release import VERSION
from tests.chaos.client import Client, Look, Outcome, Records, wall
from tests.chaos.cluster import SETTINGS, Cluster
from tests.chaos.faults.schedule import Schedule
from tests.chaos.faults.stage import Stage, Strike
from tests.chaos.load import Load
from tests.chaos.verdict import Court, Verdict
from tests.support.service import plain

QUIET_AFTER = 3.0
"""Seconds after a fault in which it may still be felt."""
DEAFENING = frozenset({"notifications lost", "listeners ended"})
LATEST = 10.0
"""Seconds after a commit in which whoever waits for it is told, whatever becomes of notifications."""
PATIENCE = 90.0
"""Seconds that all workflows get to end after everything was healed."""
PROGRESS = 10.0
LEFT_OPEN = re.compile(
    r"Exception ignored in: <function BaseConnection.__del__.*?\nResourceWarning: [^\n]*\n", re.DOTALL
)
"""What is said when a connection is closed because nobody has it any more."""
MOST_GUILTY = 50
CONNECTIONS = "select count(*) as n from pg_stat_activity where application_name like 'milepost%%'"
ACTIVE = "select count(*) as n from workflows where completed_at is null"


@dataclass(frozen=True)
class Plan:
    seconds: float
    seed: int
    rate: float
    folder: Path
    only: tuple[str, ...] = ()
    calm: float = 5.0
    """Seconds without faults at the beginning and before the end."""


class Campaign:
    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say = plan, say
        self._began = time.monotonic()
        self._records = Records()
        self._cluster = Cluster(plan.folder)
        self._resources: dict[str, dict[str, int]] = {}
        self._left_open = 0

    async def run(self) -> dict[str, Any]:
        """All results, as JSON can hold them."""
        cluster, myself = self._cluster, asyncio.current_task()
        assert myself is not None
        # What was started is ended also when this is told to end.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, myself.cancel)
        try:
            await cluster.start()
            client = Client(cluster.ports, self._records, random.Random(self._plan.seed))
            load = Load(client, self._plan.seed, self._plan.rate)
            if not await cluster.ready(client):
                raise AssertionError("the replicas are not ready")
            stage = Stage(cluster, client, load, self._plan.seed)
            schedule = Schedule(stage, self._tell, self._plan.only)
            await self._perform(load, schedule)
            await self._settle(load, client)
            client.close()
            await self._stop()
            self._say("judging every history …")
            verdict = Court(cluster.postgres.url(), cluster.executions, load).judge()
            return self._results(load, schedule, verdict)
        finally:
            await cluster.close()

    async def _perform(self, load: Load, schedule: Schedule) -> None:
        self._began = time.monotonic()
        until = self._began + self._plan.seconds
        progress = asyncio.create_task(self._progress(load, schedule), name="progress")
        loading = asyncio.create_task(load.run(until), name="load")
        try:
            await asyncio.sleep(self._plan.calm)
            await self._measure("before")
            await schedule.run(until - self._plan.calm)
            await loading
        finally:
            loading.cancel()
            progress.cancel()
        await self._cluster.heal()

    async def _settle(self, load: Load, client: Client) -> None:
        """Everything is whole; now everything has to end."""
        since = time.monotonic()
        if not await self._cluster.ready(client):
            self._records.violate("not all replicas are ready after everything was healed")
        await load.finish(PATIENCE)
        while (active := (await self._cluster.postgres.rows(ACTIVE))[0].n) and time.monotonic() < since + PATIENCE:
            await asyncio.sleep(0.2)
        self._say(f"{active} workflows are active {time.monotonic() - since:.1f} s after the healing")
        await self._measure("after")

    async def _stop(self) -> None:
        for name, code in (await self._cluster.stop()).items():
            if code != 0:
                self._records.violate(f"replica {name} ended with {code} at the last SIGTERM")
        for what in self._cluster.unexpected:
            self._records.violate(what)
        for name in self._cluster.replicas:
            log = plain((self._plan.folder / f"replica-{name}.log").read_text(errors="replace"))
            for place in re.finditer(r"Traceback \(most recent call last\)|Exception ignored|never awaited", log):
                self._records.violate(
                    f"the log of replica {name} has: {log[place.start() - 200 : place.start() + 1500]}"
                )

    async def _measure(self, when: str) -> None:
        connections = (await self._cluster.postgres.rows(CONNECTIONS.replace("%%", "%")))[0].n
        memory = {name: replica.memory() // 2**20 for name, replica in self._cluster.replicas.items()}
        self._resources[when] = {
            "connections": connections,
            **{f"MiB of {name}": size for name, size in memory.items()},
        }

    # ---- what is told

    def _tell(self, strike: Strike) -> None:
        at = strike.began - self._began
        seen = strike.evidence if strike.struck else f"NOT SEEN TO STRIKE ({strike.evidence or strike.error})"
        figures = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in strike.figures.items())
        self._say(f"{at:6.0f} s  {strike.kind} [{strike.target}]: {seen}{'; ' if figures else ''}{figures}")

    async def _progress(self, load: Load, schedule: Schedule) -> None:
        while True:
            await asyncio.sleep(PROGRESS)
            outcomes = self._records.outcomes
            struck = sum(strike.struck for strike in schedule.strikes)
            self._say(
                f"{time.monotonic() - self._began:6.0f} s  {len(load.programs)} workflows started, "
                f"{outcomes.total()} requests ({_share(outcomes):.0%} ok), {struck} faults, "
                f"{len(self._records.violations)} violations so far"
            )

    def _results(self, load: Load, schedule: Schedule, verdict: Verdict) -> dict[str, Any]:
        records = self._records
        for look, seconds in self._quiet(verdict, [s for s in schedule.strikes if s.kind not in DEAFENING]):
            if seconds > LATEST:
                verdict.add(look.workflow_id, [f"{look} was told {seconds:.1f} s late"])
        violations = {"requests": records.violations} if records.violations else {}
        quiet = [seconds for _, seconds in self._quiet(verdict, schedule.strikes)]
        everybody = [seconds for _, seconds in verdict.late]
        return {
            "seed": self._plan.seed,
            "seconds": self._plan.seconds,
            "rate": self._plan.rate,
            "version": VERSION,
            "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
            "settings": {name: str(value) for name, value in SETTINGS.items()},
            "workflows": verdict.judged,
            "started": len(load.programs),
            "ended": dict(verdict.ended),
            "rows": dict(verdict.rows),
            "executions": {str(times): count for times, count in sorted(verdict.executions.items())},
            "operations": {str(outcome): count for outcome, count in records.outcomes.items()},
            "kinds": dict(records.kinds),
            "unanswered": dict(records.unanswered.most_common()),
            "looks": len(records.looks),
            "logs_read": len(load.readings),
            "resources": self._resources,
            "left_open": self._left_open,
            "wake_ups": {"without a fault": _spread(quiet), "all": _spread(everybody)},
            "strikes": [asdict(strike) | {"overlaps": self._overlaps(strike, schedule)} for strike in schedule.strikes],
            "violations": {**violations, **verdict.violations},
            "valid": _share(records.outcomes) >= 0.5,
        }

    def _overlaps(self, strike: Strike, schedule: Schedule) -> bool:
        return any(
            other is not strike and other.began < strike.healed and strike.began < other.healed
            for other in schedule.strikes
        )

    def _quiet(self, verdict: Verdict, strikes: list[Strike]) -> list[tuple[Look, float]]:
        """Whose wait met none of these faults."""
        drift = wall(0.0)
        spans = [(strike.began + drift, strike.healed + drift + QUIET_AFTER) for strike in strikes]
        return [
            (look, seconds)
            for look, seconds in verdict.late
            if not any(began < look.ended and look.began < ended for began, ended in spans)
        ]

    def keep(self, results: dict[str, Any]) -> Path:
        """Write the results down, and the histories of whoever is in violation."""
        path = self._plan.folder / "results.json"
        path.write_text(json.dumps(results, indent=1, default=str))
        for id in list(results["violations"])[:MOST_GUILTY]:
            operations = [asdict(operation) for operation in self._records.history(id)]
            if operations:
                (self._plan.folder / f"history-{id.replace('/', '_')}.json").write_text(
                    json.dumps(operations, indent=1, default=str)
                )
        return path


def _share(outcomes: Counter[Outcome]) -> float:
    return outcomes[Outcome.OK] / max(1, outcomes.total())


def _spread(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {"count": len(seconds)}
    cuts = quantiles(seconds, n=100)
    return {"count": len(seconds), "p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(seconds)}
