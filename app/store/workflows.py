"""Workflows: reading them, owning them, ending them from outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    TIMESTAMP,
    Column,
    ColumnElement,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.model import Event, ExecutorId, JsonText, Status, Workflow, WorkflowId
from app.store import db, statements

_SQL = statements.load("workflows")


class Glance(NamedTuple):
    """Where a workflow stands, and the newest set of one key (None: never set)."""

    status: Status
    run: str
    error: JsonText | None
    position: int
    event: Event | None


SUSPECTED = 3
"""Losses of its process in a row, without a record in between, that make a workflow suspected of being their reason."""


class Owned(NamedTuple):
    """A workflow that has just become this executor's own."""

    id: WorkflowId
    name: str
    version: str
    generation: int
    start_token: str
    input: JsonText | None
    inbox: int
    attempts: int
    barren: int
    started_at: datetime
    traceparent: str | None

    @property
    def suspected(self) -> bool:
        """Whether it was there at so many losses of its process in a row that it may have been their reason."""
        return self.barren >= SUSPECTED


@dataclass(frozen=True, slots=True)
class Filter:
    """Which workflows a listing shows. Within a field any of its values; all tags."""

    name: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    parent_id: tuple[str, ...] = ()
    forked_from: tuple[str, ...] = ()
    schedule: tuple[str, ...] = ()
    id_prefix: str | None = None
    tags: Mapping[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None
    ascending: bool = False


Cursor = tuple[datetime, str]


def workflow(row: Any) -> Workflow:
    """A row of `get` or of a listing as a Workflow."""
    return Workflow(
        row.id,
        row.run,
        row.name,
        row.version,
        Status(row.status),
        row.input,
        row.output,
        row.error,
        row.tags,
        row.queue,
        row.priority,
        row.partition,
        row.deduplication_id,
        row.parent_id,
        row.forked_from,
        row.schedule,
        row.attempts,
        row.created_at,
        row.started_at,
        row.updated_at,
        row.completed_at,
        row.deadline,
        row.wake_at,
    )


async def get(line: db.Line, ids: Sequence[str]) -> list[tuple[Workflow, bytes] | None]:
    """Each workflow with the digest of its input, in the order asked for; None where there is none."""
    found: list[tuple[Workflow, bytes] | None] = [None] * len(ids)
    for row in await line.rows(_SQL["get"], {"ids": list(ids)}):
        found[row.n - 1] = (workflow(row), bytes(row.input_hash))
    return found


async def glance(line: db.Line, pairs: Sequence[tuple[str, str]]) -> list[Glance | None]:
    """For each (workflow id, key), where it stands; None where there is no such workflow."""
    found: list[Glance | None] = [None] * len(pairs)
    params = {"ids": [id for id, _ in pairs], "keys": [key for _, key in pairs]}
    for row in await line.rows(_SQL["glance"], params):
        event = None if row.position is None else Event(row.position, pairs[row.n - 1][1], row.value, row.set_at)
        found[row.n - 1] = Glance(Status(row.status), row.run, row.error, row.last or 0, event)
    return found


def _owned(rows: Sequence[Any]) -> list[Owned]:
    return [Owned(*row) for row in rows]


async def claim(
    line: db.Line, executor: ExecutorId, definitions: Sequence[tuple[str, str]], limit: int, *, suspect: bool = True
) -> list[Owned]:
    """Own up to `limit` workflows that are due and of these (name, version) pairs, one suspect among them or none."""
    return _owned(await line.rows(_SQL["claim"], {**_who(executor, definitions, limit), "suspect": suspect}))


async def next_due(line: db.Line, since: datetime) -> float | None:
    """Seconds until something is due that was not at a point in time (negative when it is by now); None: nothing."""
    seconds: float | None = (await line.rows(_SQL["next_due"], {"since": since}))[0].seconds
    return seconds


async def take_over(
    line: db.Line, executor: ExecutorId, definitions: Sequence[tuple[str, str]], limit: int
) -> tuple[list[Owned], int]:
    """Own up to `limit` workflows that dead executors left running; and how many were looked at in all, for
    some are only queued."""
    found = await line.rows(_SQL["take_over"], _who(executor, definitions, limit))
    return _owned([row[:-1] for row in found if row.status == Status.RUNNING]), len(found)


async def any_lost(line: db.Line, definitions: Sequence[tuple[str, str]]) -> bool:
    """Whether dead executors still run something of these (name, version) pairs."""
    return bool((await line.rows(_SQL["any_lost"], _named(definitions)))[0].lost)


def _who(executor: ExecutorId, definitions: Sequence[tuple[str, str]], limit: int) -> dict[str, Any]:
    return {"executor": executor, "limit": limit, **_named(definitions)}


def _named(definitions: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {"names": [name for name, _ in definitions], "versions": [version for _, version in definitions]}


async def adopt(line: db.Line, executor: ExecutorId, orphans: Sequence[tuple[str, int]]) -> list[Owned]:
    """Own anew what is this executor's by the table, but not in its memory: (id, generation) pairs."""
    params = {"executor": executor, "ids": [i for i, _ in orphans], "generations": [g for _, g in orphans]}
    return _owned(await line.rows(_SQL["adopt"], params))


async def owned(line: db.Line, pairs: Sequence[tuple[str, int]], executor: ExecutorId) -> set[str]:
    """Which of these (id, generation) an executor runs."""
    params = {"executor": executor, "ids": [id for id, _ in pairs], "generations": [g for _, g in pairs]}
    return {row.id for row in await line.rows(_SQL["owned"], params)}


async def release(line: db.Line, executor: ExecutorId) -> list[str]:
    return [row.id for row in await line.rows(_SQL["release"], {"executor": executor})]


async def wake(line: db.Line, ids: Sequence[str]) -> list[str]:
    """Queue the parked ones of these; returns which they were."""
    return [row.id for row in await line.rows(_SQL["wake"], {"ids": list(ids)})]


async def watchers(line: db.Line, ended: Sequence[str], published: Mapping[str, Collection[str]]) -> list[str]:
    """Who waits for the end of one of these, or for an event that was set: keys by workflow."""
    keys = sorted({key for keys in published.values() for key in keys})
    params = {"ended": list(ended), "ids": list(published), "keys": keys}
    return [row.workflow_id for row in await line.rows(_SQL["watchers"], params)]


async def watch(line: db.Line, targets: Sequence[str]) -> dict[str, Status]:
    """Mark workflows as waited for; those that exist come back with their status."""
    return {row.id: Status(row.status) for row in await line.rows(_SQL["watch"], {"ids": list(targets)})}


async def overdue_waits(line: db.Line) -> list[str]:
    return [row.id for row in await line.rows(_SQL["overdue_waits"], {})]


async def overdue(line: db.Line) -> list[tuple[str, int]]:
    """Active workflows whose deadline has passed, with their generations."""
    return [(row.id, row.generation) for row in await line.rows(_SQL["overdue"], {})]


@dataclass(frozen=True, slots=True)
class Aborted:
    id: str
    watched: bool


async def abort_if_active(
    connection: db.Connection,
    targets: Sequence[tuple[str, int | None]],
    status: Status,
    error: JsonText | None,
) -> tuple[list[Aborted], bool]:
    """End these (id, generation or None for any) from outside; returns those that were active, and whether
    a workflow was started to clean up."""
    params = {
        "ids": [id for id, _ in targets],
        "generations": [generation for _, generation in targets],
        "status": status.value,
        "error": error,
    }
    found = await db.rows(connection, _SQL["abort"], params)
    return [Aborted(row.id, row.watched) for row in found], any(row.cleanups for row in found)


async def lock_tree(connection: db.Connection, id: WorkflowId) -> None:
    """Hold a workflow's row and those of all active ones below it."""
    await db.rows(connection, _SQL["lock_tree"], {"id": id})


async def children(connection: db.Connection, parents: Sequence[str]) -> list[str]:
    return [row.id for row in await db.rows(connection, _SQL["children"], {"ids": list(parents)})]


@dataclass(frozen=True, slots=True)
class Held:
    """A workflow whose row is held. `abort_name`: what cleans up after it when it is ended from outside."""

    name: str
    status: Status
    abort_name: str | None


async def lock(connection: db.Connection, ids: Sequence[str]) -> dict[str, Held]:
    """Hold workflows' rows; what does not exist is left out."""
    rows = await db.rows(connection, _SQL["lock"], {"ids": list(ids)})
    return {row.id: Held(row.name, Status(row.status), row.abort_name) for row in rows}


async def resume(connection: db.Connection, id: WorkflowId) -> None:
    await db.rows(connection, _SQL["resume"], {"id": id})


async def hasten(connection: db.Connection, id: WorkflowId) -> None:
    await db.rows(connection, _SQL["hasten"], {"id": id})


async def delete_if_ended(connection: db.Connection, ids: Sequence[str]) -> list[Aborted]:
    """Remove ended workflows and all that is under them; returns which were removed."""
    return [Aborted(row.id, row.watched) for row in await db.rows(connection, _SQL["delete"], {"ids": list(ids)})]


_T = Table(
    "workflows",
    MetaData(),
    Column("id", Text(collation="C")),
    *(Column(name, Text) for name in ("name", "version", "status", "input", "output", "error", "queue", "partition")),
    *(Column(name, Text) for name in ("deduplication_id", "parent_id", "forked_from", "schedule")),
    Column("tags", JSONB),
    Column("priority", Integer),
    Column("attempts", Integer),
    Column("input_hash", LargeBinary),
    Column("start_token", Uuid),
    *(Column(f"{name}_at", TIMESTAMP(timezone=True)) for name in ("created", "started", "updated", "completed")),
    Column("wake_at", TIMESTAMP(timezone=True)),
    Column("deadline", TIMESTAMP(timezone=True)),
)
_C = _T.c

SCAN = 10_000
"""Rows that one page of a listing looks at, at most."""


async def listing(
    database: db.Database, only: Filter, *, after: Cursor | None, limit: int, include: frozenset[str]
) -> tuple[list[Workflow], Cursor | None]:
    """One page by (created_at, id), newest first or last, and where the next one begins.

    The page looks at `SCAN` rows at most, so it may be short or empty although more follow.
    """
    async with database.snapshot() as connection:
        rows = (await connection.execute(_page(only, after, limit, include))).all()
        if len(rows) > limit:
            return [workflow(row) for row in rows[:limit]], (rows[limit - 1].created_at, rows[limit - 1].id)
        end = (await connection.execute(_scan_end(only, after))).one_or_none()
    found = [workflow(row) for row in rows]
    return found, (None if end is None else (end.created_at, end.id))


def _window(only: Filter, after: Cursor | None) -> Select[Any]:
    """The rows that a page looks at: a stretch of the index, before any filter but those on its columns."""
    position = tuple_(_C.created_at, _C.id)
    conditions: list[ColumnElement[bool]] = []
    if after is not None:
        mark = tuple_(literal(after[0], _C.created_at.type), literal(after[1], _C.id.type))
        conditions.append(position > mark if only.ascending else position < mark)
    if only.created_after is not None:
        conditions.append(_C.created_at > only.created_after)
    if only.created_before is not None:
        conditions.append(_C.created_at < only.created_before)
    order = (_C.created_at, _C.id) if only.ascending else (_C.created_at.desc(), _C.id.desc())
    return select(_T).where(*conditions).order_by(*order)


def _page(only: Filter, after: Cursor | None, limit: int, include: frozenset[str]) -> Select[Any]:
    seen = _window(only, after).limit(SCAN).subquery("seen")
    c = seen.c
    chosen = {
        "name": only.name,
        "status": only.status,
        "queue": only.queue,
        "parent_id": only.parent_id,
        "forked_from": only.forked_from,
        "schedule": only.schedule,
    }
    conditions: list[ColumnElement[bool]] = [c[name].in_(values) for name, values in chosen.items() if values]
    if only.id_prefix:
        conditions.append(c.id.startswith(only.id_prefix, autoescape=True))
    if only.tags:
        conditions.append(c.tags.contains(dict(only.tags)))
    if only.completed_after is not None:
        conditions.append(c.completed_at > only.completed_after)
    if only.completed_before is not None:
        conditions.append(c.completed_at < only.completed_before)

    def payload(name: str) -> Any:
        return (cast(c[name], Text) if name in include else literal(None, Text)).label(name)

    wake_at = case((and_(c.status == "QUEUED", c.wake_at <= func.now()), None), else_=c.wake_at)
    plain = [c[f.name] for f in _T.columns if f.name not in _DERIVED]
    order = (c.created_at, c.id) if only.ascending else (c.created_at.desc(), c.id.desc())
    return (
        select(
            *plain,
            *(payload(name) for name in ("input", "output", "error")),
            cast(c.tags, Text).label("tags"),
            func.left(cast(c.start_token, String), 8).label("run"),
            wake_at.label("wake_at"),
        )
        .where(or_(*[and_(*conditions)]) if conditions else literal(True))
        .order_by(*order)
        .limit(limit + 1)
    )


_DERIVED = {"input", "output", "error", "tags", "start_token", "wake_at", "input_hash"}


def _scan_end(only: Filter, after: Cursor | None) -> Select[Any]:
    """The last row of a full stretch: there the next page begins. No row: the listing is at its end."""
    return _window(only, after).with_only_columns(_C.created_at, _C.id).offset(SCAN - 1).limit(1)
