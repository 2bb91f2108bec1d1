"""Connections to PostgreSQL, and what its errors mean.

Two kinds of connection. *Dedicated* ones, one for each duty of the hot path: psycopg without its cursors
(see `wire`), autocommit, statements prepared, planned by index whatever the tables hold. And a small SQLAlchemy
pool for everything that happens now and then. A half-open connection is found out in seconds by
keepalives, and a session that hangs inside a transaction is ended by the server. Behind a pooler
the same goes without anything that a session would have to remember; see `sessions`.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from enum import StrEnum
from typing import Any, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection as PoolConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.errors import DatabaseUnavailable
from app.patience import Turnstile, within
from app.store import sessions
from app.store.wire import Wire

Connection = sessions.Connection
rows, direct = sessions.rows, sessions.direct

KEEPALIVE = {
    "connect_timeout": "3",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "3000",
    "target_session_attrs": "read-write",
}
ACQUIRE = 0.9
"""Seconds without a connection of the pool for anybody after which a caller waits no longer."""
PATIENCE = 12.0
"""Seconds that a server may take to answer: two more than it lets a statement run."""
IDLE = 5.0
"""Seconds that a session may do nothing inside a transaction."""
SESSION = {
    "timezone": "UTC",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": f"{IDLE:g}s",
}
QUICK = b"set local lock_timeout = '700ms'"
"""For a caller who is to be told within a second that somebody holds what he asks for."""
# For what runs thousands of times a second: planned once, and by index, for a plan that was made while the tables
# were empty must still be right when they hold millions of rows.
PLANNED_ONCE = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
# For what runs now and then: planned each time, for the tables as they are.
PLANNED_EACH_TIME = {"plan_cache_mode": "force_custom_plan", "jit": "off"}
# For what takes the first few of many, in the order of an index: a backlog that was not analyzed yet looks short to the
# planner, and would be sorted whole each time.
PLANNED_IN_ORDER = {**PLANNED_EACH_TIME, "enable_sort": "off"}


FAILURES: tuple[type[Exception], ...] = (psycopg.Error, OSError, TimeoutError, UnicodeError)
"""What a statement may raise; `verdict` says what it means."""


class Verdict(StrEnum):
    """What an error says of the statement that met it."""

    LOST = "lost"
    """The connection went away: the statement may have been carried out or not."""
    BUSY = "busy"
    """Not carried out; the same may go through later."""
    REFUSED = "refused"
    """Not carried out, and never will be: a value or a constraint is against it."""
    BROKEN = "broken"
    """Not carried out; the statement itself or the schema is wrong."""


# By class or code of SQLSTATE; PostgreSQL's manual, appendix A.
_VERDICTS = {
    "08": Verdict.LOST,
    "57P": Verdict.LOST,
    "57014": Verdict.BUSY,
    "40": Verdict.BUSY,
    "55": Verdict.BUSY,
    "53": Verdict.BUSY,
    "25": Verdict.BUSY,
    "22": Verdict.REFUSED,
    "23": Verdict.REFUSED,
    "54": Verdict.REFUSED,
    "58": Verdict.BUSY,
    "P0": Verdict.REFUSED,
    "XX": Verdict.BUSY,
}


def verdict(error: BaseException) -> Verdict:
    """Sort an error of the driver; anything that has no SQLSTATE is a lost connection."""
    if isinstance(error, UnicodeError):
        return Verdict.REFUSED
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is None:
        refused = isinstance(error, (psycopg.DataError, psycopg.ProgrammingError))
        return Verdict.REFUSED if refused else Verdict.LOST
    for length in (5, 3, 2):
        if found := _VERDICTS.get(state[:length]):
            return found
    return Verdict.BROKEN


def refused(error: BaseException) -> bool:
    """Whether the database will never take what it was given."""
    return isinstance(error, FAILURES) and verdict(error) is Verdict.REFUSED


def rolled_back(error: BaseException) -> bool:
    """Whether it was a deadlock, or a conflict with another transaction: the same may go through at once."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("40")


def unfit(error: BaseException) -> bool:
    """Whether the server could not do what it otherwise does: its disk is full, say, or it takes no writes for now."""
    state = (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""
    return state.startswith(("53", "58")) or state == "25006"


def idled(error: BaseException) -> bool:
    """Whether the server ended the session because it did nothing inside a transaction for too long."""
    return isinstance(error, psycopg.Error) and error.sqlstate == "25P03"


def held(error: BaseException) -> bool:
    """Whether somebody held a row for longer than the statement might wait for it."""
    return isinstance(error, psycopg.Error) and error.sqlstate == "55P03"


def reason(error: BaseException) -> str:
    """The database's own words, without the values that it may quote in its details."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    if isinstance(error, (OSError, psycopg.Error)):
        return " ".join(f"{type(error).__name__}: {error}".split())
    return type(error).__name__


@asynccontextmanager
async def available() -> AsyncIterator[None]:
    """Turn what means that the database is away or busy into `DatabaseUnavailable`."""
    try:
        yield
    except (psycopg.Error, OSError, TimeoutError) as error:
        if verdict(error) in (Verdict.LOST, Verdict.BUSY):
            raise DatabaseUnavailable from error
        raise


def abandoned(connection: Connection) -> bool:
    """Whether the server has closed a connection that nobody was using, as it does when it is restarted.

    Then there is something to be read, its farewell and the end; libpq notices when it reads them.
    """
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        while poll.poll(0):
            connection.pgconn.consume_input()
    except psycopg.Error:
        return True
    return False


def _refuse_abandoned(adapted: Any, _record: object, _proxy: object) -> None:
    if abandoned(adapted.driver_connection):
        raise InvalidatePoolError


class Database:
    """Where the connections come from. `url` is any PostgreSQL URL that libpq or SQLAlchemy takes."""

    def __init__(self, url: str, *, pool: int = 5) -> None:
        sa_url = make_url(url)
        libpq = sa_url.set(drivername="postgresql").render_as_string(hide_password=False)
        given = {k: str(v) for k, v in conninfo_to_dict(libpq).items() if v is not None}
        self._conninfo = {"application_name": "milepost", **KEEPALIVE, **given}
        self._engine: AsyncEngine = create_async_engine(
            sa_url.set(drivername="postgresql+psycopg"),
            async_creator=self._connect_pooled,
            pool_size=pool,
            max_overflow=pool,
            pool_timeout=ACQUIRE,
            hide_parameters=True,
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_abandoned)
        self._turnstile = Turnstile(pool, ACQUIRE)

    async def connect(self, duty: str, *, settings: Mapping[str, str] = PLANNED_EACH_TIME) -> Connection:
        """A connection of one's own, in autocommit, named for its duty in `pg_stat_activity`."""
        async with asyncio.timeout(5):
            connection = await sessions.Dedicated.connect(**cast("Any", self._conninfo), autocommit=True)
            try:
                # All connections begin under one name: a pooler would tell its sessions each other one.
                name = f"{self._conninfo['application_name']} {duty}"
                await sessions.settle(connection, {**SESSION, **settings, "application_name": name})
            except BaseException:
                await close(connection)
                raise
        return connection

    async def _connect_pooled(self) -> Connection:
        connection = await self.connect("pool", settings={})
        await connection.set_autocommit(False)
        return connection

    @asynccontextmanager
    async def transaction(self, *, translate: bool = True) -> AsyncGenerator[Connection]:
        """A transaction on a pooled connection; SQLAlchemy owns its begin, commit and rollback.

        Raises `DatabaseUnavailable` when the database is away, busy, or has no connection to spare;
        the driver's own errors where `translate` is False.
        """
        # Authors' transactions are few enough; callers' are not.
        passed = self._turnstile.passed() if translate else nullcontext()
        # What an author does in a transaction may rightly take longer.
        begun = self._begun(quick=translate)
        async with available() if translate else nullcontext(), passed, begun as (_, connection):
            with _watched(connection) if translate else nullcontext():
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[PoolConnection]:
        """A read-only transaction whose statements all see the same, as SQLAlchemy gives it."""
        isolation = "isolation level repeatable read read only"
        async with available(), self._turnstile.passed(), self._begun(isolation, quick=True) as (pooled, connection):
            with _watched(connection):
                yield pooled

    @asynccontextmanager
    async def _begun(
        self, mode: str | None = None, *, quick: bool
    ) -> AsyncGenerator[tuple[PoolConnection, Connection]]:
        try:
            async with within(ACQUIRE):
                pooled = await self._engine.connect()
            try:
                async with pooled.begin():
                    connection = cast("Connection", (await pooled.get_raw_connection()).driver_connection)
                    with _watched(connection):
                        if mode is not None:
                            await connection.execute(f"set transaction {mode}".encode())
                        await sessions.tell(connection, SESSION)
                        if quick:
                            await connection.execute(QUICK, prepare=False)
                    yield pooled, connection
            finally:
                await asyncio.shield(pooled.close())
        except DBAPIError as error:
            raise (error.orig or error) from error
        except PoolTimeout as error:
            raise ConnectionError("no connection was free in time") from error

    async def close(self) -> None:
        await self._engine.dispose()


class Line:
    """One dedicated connection that is opened when needed and again after it was lost."""

    def __init__(
        self,
        database: Database,
        duty: str,
        *,
        settings: Mapping[str, str] = PLANNED_EACH_TIME,
        opened: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        """`opened` is called with each new connection before its first statement."""
        self._database, self._duty, self._settings, self._opened = database, duty, settings, opened
        self._told = {**SESSION, **settings}
        self._connection: Connection | None = None
        self._wire: Wire | None = None
        self._lock = asyncio.Lock()

    async def rows(self, statement: str, params: sessions.Params) -> Sequence[Any]:
        """Run one statement; raises what the driver raises. The connection is dropped when it broke."""
        async with self._lock:
            connection = await self._open()
            try:
                if self._wire is not None:
                    return await self._wire.rows(statement, params)
                with _watched(connection):
                    return await sessions.rows_told(connection, self._told, statement, params)
            except BaseException as error:
                # Also when cancelled: what is on its way would answer the next statement.
                await self._drop_if_broken(connection, error)
                raise

    async def open(self) -> None:
        """Connect now, so that the first statement need not. Raises what the driver raises."""
        async with self._lock:
            await self._open()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self._lock:
            connection = await self._open()
            if self._wire is not None:
                self._wire.rest()
            try:
                with _watched(connection):
                    async with connection.transaction():
                        await sessions.tell(connection, self._told)
                        yield connection
            except BaseException as error:
                await self._drop_if_broken(connection, error)
                raise

    async def _open(self) -> Connection:
        if self._connection is not None and abandoned(self._connection):
            await self.close()
        if self._connection is None:
            connection = await self._database.connect(self._duty, settings=self._settings)
            try:
                if self._opened is not None:
                    with _watched(connection):
                        await self._opened(connection)
            except BaseException:
                await close(connection)
                raise
            self._connection = connection
            self._wire = Wire(connection, patience=PATIENCE) if direct(connection) else None
        return self._connection

    async def _drop_if_broken(self, connection: Connection, error: BaseException) -> None:
        idle = psycopg.pq.TransactionStatus.IDLE
        # A plan that does not fit the schema any more is the connection's, not the database's.
        broken = isinstance(error, psycopg.Error) and verdict(error) is Verdict.BROKEN
        unread = connection.pgconn.pipeline_status != psycopg.pq.PipelineStatus.OFF
        if broken or unread or connection.closed or connection.info.transaction_status != idle:
            await self.close()

    async def close(self) -> None:
        if self._wire is not None:
            self._wire.rest()
            self._wire = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await close(connection)


@contextmanager
def _watched(connection: Connection) -> Iterator[None]:
    """Hang up when the server has not answered for longer than it lets a statement run: it is not there any more,
    whatever the network says. The statement then fails as one whose connection was lost."""
    timer = asyncio.get_running_loop().call_later(PATIENCE, sessions.hang_up, connection)
    try:
        yield
    finally:
        timer.cancel()


async def close(connection: Connection) -> None:
    """Close without waiting for a server that may be gone."""
    with suppress(psycopg.Error, OSError, TimeoutError):
        async with asyncio.timeout(1):
            await connection.close()
