"""Executors: the processes that run workflows, as the database knows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.model import ExecutorId
from app.store import db, statements

_SQL = statements.load("executors")


@dataclass(frozen=True, slots=True)
class Peer:
    """Another executor. `hint` is the number of the last one that it sent; `heartbeat_at` is a Unix time of the
    database's clock, `silent_for` seconds since then. One that is not `direct`, as behind a pooler, hears no hints and
    has no lock to lose: it is never found to be without."""

    id: ExecutorId
    alive: bool
    hint: int
    heartbeat_at: float
    silent_for: float
    locked: bool
    direct: bool = True


@dataclass(frozen=True, slots=True)
class Beat:
    """What one beat brought. Times ahead are in seconds, None when there is nothing. `lost`: there are workflows that
    say running, and belong to no executor that is alive."""

    at: datetime
    alive: bool
    uptime: float
    due_in: float | None
    overdue_in: float | None
    running: frozenset[tuple[str, int]]
    lost: bool
    peers: tuple[Peer, ...]


async def register(
    connection: db.Connection, id: ExecutorId, *, host: str, pid: int, version: str, lock_key: int
) -> bool:
    """Make this process known, and hold the session's lock that shows it alive; False: the lock is taken."""
    key = lock_key if db.direct(connection) else None
    params = {"id": id, "host": host, "pid": pid, "version": version, "lock_key": key}
    await db.rows(connection, _SQL["register"], params)
    return await _hold(connection, lock_key)


async def hold(line: db.Line, lock_key: int) -> bool:
    """Hold the session's lock, if it is free."""
    async with line.transaction() as connection:
        return await _hold(connection, lock_key)


async def _hold(connection: db.Connection, lock_key: int) -> bool:
    # In somebody else's session it would be held for as long as that lives, for nobody.
    return not db.direct(connection) or bool((await db.rows(connection, _SQL["hold"], {"lock_key": lock_key}))[0].held)


async def beat(line: db.Line, executor: ExecutorId, hint: int) -> Beat:
    """Give a sign of life, with the number of the last hint that was sent; and see what there is to know."""
    row: Any = (await line.rows(_SQL["beat"], {"executor": executor, "hint": hint}))[0]
    running = frozenset((own["id"], own["generation"]) for own in json.loads(row.running))
    peers = tuple(Peer(**peer) for peer in json.loads(row.peers))
    return Beat(row.at, row.alive, row.uptime, row.due_in, row.overdue_in, running, row.lost, peers)


async def here(line: db.Line, executor: ExecutorId, host: str) -> list[tuple[ExecutorId, int]]:
    """Executors that say they live on this host, with their process ids."""
    rows = await line.rows(_SQL["here"], {"executor": executor, "host": host})
    return [(row.id, row.pid) for row in rows]


async def bury(line: db.Line, ids: Sequence[ExecutorId], *, since: float, proven: bool) -> list[ExecutorId]:
    """Declare executors dead, if they have been silent since a Unix time or their death is proven."""
    rows = await line.rows(_SQL["bury"], {"ids": list(ids), "since": since, "proven": proven})
    return [row.id for row in rows]


async def forget(line: db.Line) -> None:
    await line.rows(_SQL["forget"], {})


async def leave(line: db.Line, executor: ExecutorId) -> None:
    await line.rows(_SQL["leave"], {"executor": executor})


async def probe(line: db.Line, executor: ExecutorId) -> str | None:
    """The schema's revision, after a write; None when the database does not know this executor any more."""
    rows = await line.rows(_SQL["probe"], {"executor": executor})
    return rows[0].revision if rows else None
