"""Rows and batches of the journal, made with defaults."""

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from app.model import ExecutorId
from app.store import journal
from app.store.journal import Batch, Rarities
from tests.support.sessions import Session

ME = ExecutorId("me")
OTHER = ExecutorId("other")
AT = "2026-01-01T00:00:00+00:00"

WORKFLOW: dict[str, Any] = {
    "name": "shop",
    "version": "1",
    "status": "RUNNING",
    "input_hash": b"",
    "tags": "{}",
    "executor_id": ME,
    "generation": 1,
}
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "DEAD")


async def add_workflow(session: Session, id: str, **columns: Any) -> None:
    """A workflow of ours that runs, in generation 1, unless it is said otherwise; committed with the session."""
    values = {**WORKFLOW, "id": id, "start_token": uuid.uuid4(), **columns}
    now = ["created_at", "started_at", "updated_at"]
    if values["status"] in ENDED:
        now.append("completed_at")
    if values["status"] == "QUEUED":
        now.append("wake_at")
    now = [name for name in now if name not in values]
    names = ", ".join([*values, *now])
    places = ", ".join([f"%({name})s" for name in values] + ["now()"] * len(now))
    await session.rows(f"insert into workflows ({names}) values ({places})", values)


async def add_executor(session: Session, id: str, *, alive: bool = True) -> None:
    await session.rows(
        "insert into executors (id, host, pid, version, lock_key, alive, started_at, heartbeat_at)"
        " values (%(id)s, 'elsewhere', 1, 'test', 0, %(alive)s, now(), now())",
        {"id": id, "alive": alive},
    )


def entry(id: str, generation: int = 1, **more: Any) -> dict[str, Any]:
    """What a flush says of one workflow: `fin`, `seen`, `output`, `error`, `wake_at`, `fertile`."""
    return {"id": id, "generation": generation, **more}


def step(id: str, seq: int = 1, **more: Any) -> dict[str, Any]:
    record = {"done": seq, "name": "pay", "kind": "step", "digest": 0, "attempts": 1, "output": seq}
    return {"id": id, "seq": seq, **record, "started_at": AT, "completed_at": AT, **more}


def event(id: str, position: int = 1, key: str = "status", value: Any = "paid", **more: Any) -> dict[str, Any]:
    return {"id": id, "position": position, "key": key, "value": value, "done": 0, **more}


def start(id: str, token: uuid.UUID | None = None, **more: Any) -> dict[str, Any]:
    row = {"name": "shop", "version": "1", "status": "QUEUED", "input_hash": "", "tags": {}, "delay": 0}
    return {"id": id, "start_token": str(token or uuid.uuid4()), **row, **more}


def wait(id: str, seq: int = 1, kind: str = "receive", **more: Any) -> dict[str, Any]:
    return {"id": id, "seq": seq, "kind": kind, "attempts": 0, **more}


def batch(
    *entries: dict[str, Any],
    starts: Iterable[dict[str, Any]] = (),
    steps: Iterable[dict[str, Any]] = (),
    events: Iterable[dict[str, Any]] = (),
    received: Sequence[dict[str, Any]] = (),
    callbacks: Sequence[dict[str, Any]] = (),
    waits: Sequence[dict[str, Any]] = (),
    waited: Sequence[dict[str, Any]] = (),
) -> Batch:
    starts = list(starts)
    rare = received or callbacks or waits or waited
    return Batch(
        ids=[row["id"] for row in entries],
        entries=json.dumps(entries),
        starts=json.dumps(starts) if starts else None,
        steps=json.dumps(list(steps)),
        events=json.dumps(list(events)),
        rarities=Rarities(
            received=json.dumps(received),
            callbacks=json.dumps(callbacks),
            waits=json.dumps(waits),
            waited=json.dumps(waited),
            positions=[row["position"] for row in received],
            seqs=[row["seq"] for row in waited],
        )
        if rare
        else None,
    )


async def flush(line: Any, given: Batch, *, skip: bool = False, again: bool = False, executor: str = ME) -> dict:
    """The answer of a flush: rows by (id, started)."""
    rows = await journal.flush(line, ExecutorId(executor), given, skip=skip, again=again)
    return {(row.id, row.started): row for row in rows}


async def counts(session: Session, id: str) -> dict[str, int]:
    """How many rows there are of a workflow, by table."""
    tables = ("workflows", "steps", "events", "messages", "waits", "callbacks")
    found = {}
    for table in tables:
        column = "id" if table == "workflows" else "workflow_id"
        (row,) = await session.rows(f"select count(*) as n from {table} where {column} = %(id)s", {"id": id})
        found[table] = row.n
    return found


async def column(session: Session, id: str, name: str) -> Any:
    """One column of a workflow; None too when there is no such workflow."""
    rows = await session.rows(f"select {name} as value from workflows where id = %(id)s", {"id": id})
    return rows[0].value if rows else None
