"""Rival sessions: transactions that hold rows while something else goes on, and who PostgreSQL says waits for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.rows import namedtuple_row

from app.store import db
from tests.support import ways
from tests.support.waiting import eventually

T = TypeVar("T")

WAITING = """
select a.pid, a.application_name
from pg_stat_activity a
where %(pid)s = any (pg_blocking_pids(a.pid)) and (%(name)s::text is null or a.application_name like %(name)s)
"""


class Session(db.Line):
    """A connection whose statements belong to a transaction that ends when the test says so.

    It passes for a `Line`, so what the store does in one statement can be held in the middle of its commit.
    """

    def __init__(self, connection: Any, witness: Any) -> None:
        self.connection = connection
        self._witness = witness

    async def rows(self, statement: str, params: Mapping[str, Any] | None = None) -> Any:
        cursor = await self.connection.execute(statement.encode(), params)
        return await cursor.fetchall() if cursor.description else []

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()

    async def blocks(self, name: str | None = None) -> int:
        """Wait until PostgreSQL reports that somebody (of this application name) waits for this session; its pid."""

        # The sessions of a pooler are of all duties, one after the other.
        sought = {"pid": self.connection.info.backend_pid, "name": None if ways.POOLED else name}

        async def waiting() -> int | None:
            cursor = await self._witness.execute(WAITING, sought)
            row = await cursor.fetchone()
            return None if row is None else int(row.pid)

        pid = await eventually(waiting, message=f"nobody ({name or 'whoever'}) waits for the session")
        assert pid is not None
        return pid


@asynccontextmanager
async def sessions(url: str, count: int = 1) -> AsyncIterator[list[Session]]:
    """As many sessions, each with a transaction of its own."""
    async with await _connect(url, autocommit=True) as witness:
        made = [await _connect(url) for _ in range(count)]
        try:
            yield [Session(connection, witness) for connection in made]
        finally:
            for connection in made:
                await connection.close()


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Session]:
    async with sessions(url) as (one,):
        yield one


@asynccontextmanager
async def observer(url: str) -> AsyncIterator[Session]:
    """A session whose statements are committed one by one."""
    async with await _connect(url, autocommit=True) as connection:
        yield Session(connection, connection)


@asynccontextmanager
async def line(url: str, duty: str = "test") -> AsyncIterator[db.Line]:
    """A line as the journal has it."""
    database = db.Database(ways.by_way(url))
    made = db.Line(database, duty, settings=db.PLANNED_ONCE)
    try:
        yield made
    finally:
        await made.close()
        await database.close()


@asynccontextmanager
async def under_way(work: Awaitable[T]) -> AsyncIterator["asyncio.Future[T]"]:
    """Something that goes on while the test does something else; cancelled if the test fails."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _connect(url: str, *, autocommit: bool = False) -> Any:
    connection: Any = await psycopg.AsyncConnection.connect(url, autocommit=autocommit, row_factory=namedtuple_row)
    return connection
