"""Events: the log of one workflow, and the board that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from app.model import Event, WorkflowId
from app.store import db, statements

_SQL = statements.load("events")


async def board(connection: db.Connection, id: WorkflowId, *, after: str, limit: int) -> list[Event]:
    """The newest set of each key, by key, from after a key on ('' for the first page)."""
    return [Event(*row) for row in await db.rows(connection, _SQL["board"], {"id": id, "after": after, "limit": limit})]


async def log(connection: db.Connection, id: WorkflowId, *, after: int, keys: Sequence[str], limit: int) -> list[Event]:
    """The sets in their order, from after a position on; of all keys when none is given."""
    params = {"id": id, "after": after, "keys": list(keys) or None, "limit": limit}
    return [Event(*row) for row in await db.rows(connection, _SQL["log"], params)]
