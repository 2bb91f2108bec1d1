"""How long after the commit of an event a client that waits has its bytes, in the same process and in another one."""

import asyncio
from pathlib import Path

from tests.bench.contestants.base import Place
from tests.bench.scale.base import Bench, Figures, bench, cut, timed
from tests.support.service import Service
from tests.support.wire import Wire, wires

COMMITTED = """
    select json_object_agg(workflow_id, extract(epoch from pg_xact_commit_timestamp(xmin)))
    from events
    where workflow_id like %s
"""


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """`size` events for each of the two; the database's clock is that of the clients."""
    figures: Figures = {}
    with bench(place) as here, replica(here, place.folder) as there:
        for number in range(repetitions):
            for where, service in (("the same process", here.service), ("another replica", there)):
                prefix = f"{where.replace(' ', '-')}-{number}"
                late = asyncio.run(_wait(here, service, prefix, size))
                for percent in (50, 99):
                    figures.setdefault(f"ms in {where}, p{percent}", []).append(cut(late, percent))
    return figures


def replica(here: Bench, folder: Path) -> Service:
    """A second process on the same database, in which none of the workflows run."""
    url = here.postgres.url(here.database)
    return Service(
        folder, {"DATABASE_URL": url, "WORKFLOWS": "tests.bench.workflows", "EXAMPLES": False, "ROLE": "api"}
    )


async def _wait(here: Bench, service: Service, prefix: str, size: int) -> list[float]:
    answered: dict[str, float] = {}
    async with wires(here.service.url, 1) as (asker,), wires(service.url, 2) as (poller, looker):
        for number in range(size):
            answered[f"{prefix}-{number}"] = await _one(asker, poller, looker, f"{prefix}-{number}")
    committed = here.ask(COMMITTED, f"{prefix}-%")
    return [1000 * (at - float(committed[id])) for id, at in answered.items()]


async def _one(asker: Wire, poller: Wire, looker: Wire, id: str) -> float:
    """When the bytes of the event were there."""
    await timed(asker, "POST", "/workflows", {"name": "answer", "id": id})
    await poller.send("GET", f"/workflows/{id}/events/answer?timeout=25")
    await timed(looker, "GET", f"/workflows/{id}")  # so the poll has been read, and waits
    await timed(asker, "POST", f"/workflows/{id}/messages", {"topic": "question", "payload": "why"})
    answer = await poller.answer()
    assert answer.status == 200, answer.body
    return answer.at
