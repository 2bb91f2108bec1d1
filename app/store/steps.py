"""What workflows recorded: for replay, and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.model import ExecutorId, JsonText, Step, StepKind, WorkflowId
from app.store import db, statements

_SQL = statements.load("steps")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A durable call that has come out. `seq` counts calls, `done` counts outcomes."""

    seq: int
    done: int
    name: str
    kind: StepKind
    digest: int
    output: JsonText | None
    error: JsonText | None
    attempts: int
    child_id: WorkflowId | None
    started_at: datetime
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """A durable call that had not come out when its workflow left memory."""

    seq: int
    kind: str
    deadline: datetime | None
    attempts: int
    error: JsonText | None


@dataclass(slots=True)
class Records:
    """All that replay needs of one workflow."""

    steps: list[Recorded] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """The keys set outside of steps, in the order of setting."""
    position: int = 0
    waits: list[Wait] = field(default_factory=list)


async def records(line: db.Line, ids: Sequence[str]) -> dict[str, Records]:
    """The records of workflows that this executor owns already."""
    found = {id: Records() for id in ids}
    params = {"ids": list(ids)}
    for row in await line.rows(_SQL["records"], params):
        found[row.workflow_id].steps.append(
            Recorded(
                row.seq,
                row.done,
                row.name,
                StepKind(row.kind),
                row.digest,
                row.output,
                row.error,
                row.attempts,
                row.child_id,
                row.started_at,
                row.completed_at,
            )
        )
    for row in await line.rows(_SQL["published"], params):
        found[row.workflow_id].keys = row.keys or []
        found[row.workflow_id].position = row.last
    for row in await line.rows(_SQL["waits"], params):
        found[row.workflow_id].waits.append(Wait(row.seq, row.kind, row.deadline, row.attempts, row.error))
    return found


async def page(connection: db.Connection, id: WorkflowId, *, after: int, limit: int) -> list[Step]:
    rows = await db.rows(connection, _SQL["page"], {"id": id, "after": after, "limit": limit})
    return [
        Step(
            row.seq,
            row.name,
            StepKind(row.kind),
            row.output,
            row.error,
            row.attempts,
            row.started_at,
            row.completed_at,
            row.child_id,
        )
        for row in rows
    ]


async def record_if_owned(
    connection: db.Connection, id: WorkflowId, executor: ExecutorId, generation: int, step: Recorded
) -> bool:
    """Record a step in the transaction of its own writes, as its last statement; False: fenced."""
    values = {
        "id": id,
        "executor": executor,
        "generation": generation,
        "seq": step.seq,
        "done": step.done,
        "name": step.name,
        "kind": step.kind.value,
        "digest": step.digest,
        "output": step.output,
        "attempts": step.attempts,
        "started_at": step.started_at,
        "completed_at": step.completed_at,
    }
    return bool(await db.rows(connection, _SQL["record"], values))


async def recorded(line: db.Line, id: WorkflowId, step: Recorded) -> bool:
    """Whether a step whose commit was not answered is there."""
    return bool(await line.rows(_SQL["recorded"], {"id": id, "seq": step.seq, "done": step.done}))
