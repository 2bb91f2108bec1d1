"""Sessions of the server, and how it goes without one of one's own.

Behind a pooler each transaction may meet another session. What was set, prepared, locked or listened for in one is
not there in the next, and stays behind for a stranger. No pooler says that it is there; but the process id by which
a connection was greeted is then not that of the session that answers. So a *direct* connection, also one through a
proxy that only passes on, sets its session up once and prepares its statements. Any other one leaves no trace: the
settings go along with each statement, as one round trip and one transaction.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import psycopg
from psycopg.rows import TupleRow, namedtuple_row

Connection = psycopg.AsyncConnection[TupleRow]
Params = Mapping[str, Any]

_SETTLE = """
select set_config(name, value, false)
from unnest(%(names)s::text[], %(values)s::text[]) as s (name, value)
where pg_backend_pid() = %(pid)s
"""


class Dedicated(psycopg.AsyncConnection[TupleRow]):
    """Asks no pooler to cancel a statement, as the driver does when whoever waits for one is cancelled."""

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        if direct(self):
            await super().cancel_safe(timeout=timeout)
        else:
            # The request may come when the session is another client's already, and there are releases of PgBouncer
            # that it ends, for everybody. This connection would be given up anyway.
            hang_up(self)


def hang_up(connection: Connection) -> None:
    """Break the line off: whatever is under way on it fails at once, as one whose connection was lost."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


async def settle(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set the session up, if it is this connection's own; `direct` tells from then on."""
    params = {"names": list(settings), "values": list(settings.values()), "pid": connection.info.backend_pid}
    told = await connection.execute(_SETTLE, params, prepare=False)
    if await told.fetchone() is None:
        # This is also what keeps the driver from preparing what an author executes often.
        connection.prepare_threshold = None


def direct(connection: Connection) -> bool:
    """Whether this connection has one session of the server for as long as it lives."""
    return connection.prepare_threshold is not None


async def tell(connection: Connection, settings: Mapping[str, str]) -> None:
    """Make settings hold for the transaction that is under way, where the session itself could not be told."""
    if not direct(connection):
        await connection.execute(_telling(tuple(settings.items())), prepare=False)


async def rows(connection: Connection, statement: str, params: Params) -> Sequence[Any]:
    """Run one of our own statements and fetch what it returns, as named tuples."""
    cursor = connection.cursor(row_factory=namedtuple_row)
    await cursor.execute(statement.encode(), params, prepare=connection.autocommit and direct(connection))
    return await cursor.fetchall() if cursor.description else []


async def rows_told(
    connection: Connection, settings: Mapping[str, str], statement: str, params: Params
) -> Sequence[Any]:
    """The same as a transaction of its own in which settings hold."""
    cursor = connection.cursor(row_factory=namedtuple_row)
    # What goes out together is one implicit transaction. It is committed before the pipeline is left, and only then
    # is the answer read.
    try:
        async with connection.pipeline():
            await tell(connection, settings)
            await cursor.execute(statement.encode(), params, prepare=False)
    except psycopg.OperationalError as error:
        # An error of the commit itself leaves the driver in the middle of the pipeline, of which it then complains.
        if error.sqlstate is None and isinstance(error.__context__, psycopg.Error):
            raise error.__context__ from None
        raise
    return await cursor.fetchall() if cursor.description else []


@cache
def _telling(settings: tuple[tuple[str, str], ...]) -> bytes:
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings)
    return f"select {calls}".encode()
