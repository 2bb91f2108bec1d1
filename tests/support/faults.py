"""Faults at the engine's named points, and the history that has to come out all the same.

A dry run lists the moments of a program: each time that a point is passed. Then the program is run once
for every moment with a fault at it, and what the database holds at the end is compared with the dry run.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from app.engine import points
from tests.support import waiting
from tests.support.engine import Engine

Client = Callable[[str], Awaitable[Any]]
"""Starts a program under an id and waits for its end; may be called again after a crash."""

PATIENCE = 20.0 * waiting.PATIENCE


@dataclass(frozen=True)
class Moment:
    """The nth time that a point is passed."""

    point: str
    nth: int

    def __str__(self) -> str:
        return f"{self.point}#{self.nth}"


@dataclass
class Fault:
    """Does something at one moment, and lets everything pass at all others."""

    do: Callable[[], Awaitable[None]]
    at: Moment | None = None
    passed: Counter[str] = field(default_factory=Counter)
    struck: bool = False

    async def __call__(self, point: str) -> None:
        self.passed[point] += 1
        if self.at == Moment(point, self.passed[point]):
            self.struck = True
            await self.do()


async def nothing() -> None:
    """No fault."""


async def lost() -> None:
    """The connection is gone: who waited for an answer will not have one."""
    raise psycopg.OperationalError("the connection was cut by a test")


def kills(engine: Engine) -> Callable[[], Awaitable[None]]:
    async def kill() -> None:
        engine.kill()
        await asyncio.Event().wait()

    return kill


async def rehearse(client: Client, id: str) -> list[Moment]:
    """Run a program to its end; the moments at which something could have happened."""
    fault = Fault(nothing)
    points.install(fault)
    await client(id)
    points.install(None)
    return [Moment(point, n) for point, count in fault.passed.items() for n in range(1, count + 1)]


async def perform(engine: Engine, client: Client, id: str, fault: Fault) -> None:
    """Run a program to its end with a fault; who asked for it asks again after a crash."""
    points.install(fault)
    asked = engine.beside(_asked(client, id))
    killed = engine.beside(engine.killed.wait())
    try:
        await asyncio.wait({asked, killed}, return_when=asyncio.FIRST_COMPLETED)
        if engine.killed.is_set():
            asked.cancel()
            await asyncio.wait({asked})
            await engine.crash()
            asked = engine.beside(_asked(client, id))
        await asked
    finally:
        killed.cancel()
        points.install(None)


async def _asked(client: Client, id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        await client(id)


@dataclass
class History:
    """What is left of one workflow, without what differs from run to run."""

    status: str
    output: Any
    steps: list[tuple[Any, ...]]
    events: list[tuple[str, Any]]
    """Those set by the workflow's own code."""
    streams: dict[int, list[tuple[str, Any]]]
    """Those set inside of steps, by step."""
    messages: list[tuple[Any, ...]]


async def history(engine: Engine, id: str) -> History:
    """Asserts besides that the logs are whole: no gap, nothing twice, nothing left behind."""
    (workflow,) = await engine.rows("select * from workflows where id = %s", id)
    log = await engine.log(id)
    assert [row["position"] for row in log] == list(range(1, len(log) + 1)), "the event log has gaps"
    steps = await engine.steps(id)
    order = sorted(row["done"] for row in steps)
    assert len(set(order)) == len(order), "two steps were done at once"
    assert not await engine.rows("select * from waits where workflow_id = %s", id), "a wait was left behind"
    streams: dict[int, list[tuple[str, Any]]] = {}
    for row in log:
        if row["step"] is not None:
            streams.setdefault(row["step"], []).append((row["key"], _anonymous(row["value"], id)))
    messages = await engine.rows("select * from messages where workflow_id = %s order by position", id)
    return History(
        status=workflow["status"],
        output=_anonymous(workflow["output"], id),
        steps=[(r["seq"], r["kind"], r["name"], _anonymous(r["output"], id), r["error"]) for r in steps],
        events=[(row["key"], _anonymous(row["value"], id)) for row in log if row["step"] is None],
        streams=streams,
        messages=[(m["position"], m["topic"], m["payload"], m["received_seq"]) for m in messages],
    )


def _anonymous(value: Any, id: str) -> Any:
    """Ids and tokens are of their own in each run."""
    if isinstance(value, str):
        return re.sub(r"/callbacks/\w+", "/callbacks/…", value.replace(id, "…"))
    return value


def is_rerun_of(seen: list[tuple[str, Any]], once: list[tuple[str, Any]], reruns: int) -> bool:
    """Whether a log of a step's events is some broken-off runs of it, and a whole one at the end."""
    for _ in range(reruns + 1):
        if seen == once:
            return True
        # The longest beginning that this run could have had.
        length = next((n for n in range(len(once), 0, -1) if seen[:n] == once[:n]), 0)
        if not length:
            return False
        seen = seen[length:]
    return False
