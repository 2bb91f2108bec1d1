"""What a fault acts upon, and what is written down of it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import psycopg

from tests.chaos.client import Client, Outcome
from tests.chaos.cluster import Cluster, Replica
from tests.chaos.load import Load

LOOK = 0.1
"""Seconds between two looks at whether something has recovered."""
PATIENCE = 30.0

RUNNING = """
select w.id, w.executor_id
from workflows w
join executors e on e.id = w.executor_id
where w.status = 'RUNNING' and e.alive and e.pid = any (%s)
"""
LEFT = """
select count(*) as n
from workflows
where status = 'RUNNING' and id = any (%s) and executor_id = any (%s)
"""
SILENT = """
select extract(epoch from now() - max(heartbeat_at))::float8 as seconds
from executors
where pid = %s and alive
"""


@dataclass
class Strike:
    """One fault: when it was, how it was seen to have struck, and how long what followed took."""

    kind: str
    target: str = ""
    began: float = 0.0
    healed: float = 0.0
    struck: bool = False
    evidence: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def saw(self, what: str, struck: object = True) -> None:
        self.struck = self.struck or bool(struck)
        self.evidence = f"{self.evidence}, {what}" if self.evidence else what


@dataclass
class Stage:
    cluster: Cluster
    client: Client
    load: Load
    seed: int

    def replica(self, rng: random.Random) -> Replica:
        """One that is up and that no other fault is at."""
        return rng.choice([r for r in self.cluster.replicas.values() if r.running and not r.busy.locked()])

    async def rows(self, statement: str, params: Any = None) -> list[Any]:
        """Ask the database, and wait for it if another fault is at it."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return await self.cluster.postgres.rows(statement, params)
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(LOOK)

    async def ran_by(self, *replicas: Replica) -> tuple[list[str], list[str]]:
        """The workflows that processes run, by the table, and the executors that these are."""
        rows = await self.rows(RUNNING, [[replica.pid for replica in replicas]])
        return [row.id for row in rows], sorted({row.executor_id for row in rows})

    async def gone_elsewhere(
        self, strike: Strike, ran: tuple[list[str], list[str]], since: float, name: str, timeout: float = 40.0
    ) -> None:
        """How long it took until none of these workflows was of those executors any more."""
        ids, executors = ran
        if not ids:
            return
        while time.monotonic() < since + timeout:
            if not (await self.rows(LEFT, [ids, executors]))[0].n:
                strike.figures[name] = time.monotonic() - since
                return
            await asyncio.sleep(LOOK)

    async def standing(self, replica: Replica) -> str:
        """What the others think of it."""
        seconds = (await self.rows(SILENT, [replica.pid]))[0].seconds
        return "declared dead" if seconds is None else f"silent for {seconds:.1f} s"

    async def serving_again(self, strike: Strike, since: float, *names: str) -> None:
        """How long it took until all replicas, but for those that another fault is at, took writes again."""
        replicas = self.cluster.replicas.values()
        wanted = names or tuple(r.name for r in replicas if r.running and r.was_ready and not r.busy.locked())
        if wanted and await self.cluster.ready(self.client, *wanted):
            strike.figures["serving again"] = time.monotonic() - since

    async def accepting_again(self, strike: Strike, since: float, timeout: float = 20.0) -> None:
        """How long it took until a start was acknowledged that was asked for after this moment."""
        operations = self.load.records.operations
        while time.monotonic() < since + timeout:
            for operation in takewhile(lambda operation: operation.ended > since, reversed(operations)):
                if operation.kind == "start" and operation.outcome is Outcome.OK and operation.began >= since:
                    strike.figures["first start"] = operation.ended - since
            if "first start" in strike.figures:
                return
            await asyncio.sleep(LOOK)


Act = Callable[[Stage, Strike, random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """`weight`: how many of it are in a deck."""

    name: str
    act: Act
    weight: int = 1
