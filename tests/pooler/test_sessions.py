"""Behind a pooler nothing is asked of a session that it would have to remember, and nothing is left in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest

from app import Context
from app.model import ExecutorId
from app.store import db, executors, migrations, workflows
from app.store.db import Verdict
from tests.support.engine import Engine, running
from tests.support.pooler import Pooler
from tests.support.ports import relay
from tests.support.sessions import observer, session
from tests.support.waiting import eventually

pytestmark = pytest.mark.pooler

SET = """
select current_setting('statement_timeout') || ' ' || current_setting('enable_seqscan') as now
"""
LEFT = """
select (select count(*) from pg_prepared_statements) + (select count(*) from pg_listening_channels()) as things,
       current_setting('statement_timeout') as statement_timeout, current_setting('enable_seqscan') as enable_seqscan
"""
LOCKS = """
select count(*) from pg_locks l join pg_database d on d.oid = l.database
where l.locktype = 'advisory' and d.datname = current_database()
"""
POOL = 20
"""Sessions that PgBouncer opens for one database, unless told otherwise."""


@asynccontextmanager
async def line(url: str, **options: Any) -> AsyncIterator[db.Line]:
    database = db.Database(url)
    made = db.Line(database, "test", **options)
    try:
        yield made
    finally:
        await made.close()
        await database.close()


async def is_direct(url: str) -> bool:
    database = db.Database(url)
    connection = await database.connect("test")
    try:
        return db.direct(connection)
    finally:
        await connection.close()
        await database.close()


async def test_a_pooler_is_told_from_the_server_and_from_a_proxy_that_only_passes_on(database_url, pooled_url):
    assert await is_direct(database_url)
    assert not await is_direct(pooled_url)
    async with relay(database_url) as relayed:
        assert await is_direct(relayed)


async def test_a_pooler_is_told_when_it_gives_a_session_for_as_long_as_the_connection_lives(
    databases, database_url, tmp_path
):
    """Then nothing would be lost by using it; but it might be another mode tomorrow, and nobody would say so."""
    with Pooler(tmp_path, databases.url("postgres"), mode="session") as pooler:
        assert not await is_direct(pooler.url(database_url))


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_pooler_that_takes_options_and_drops_them_is_no_server_either(databases, database_url, tmp_path, mode):
    ignored = "options, extra_float_digits"
    with Pooler(tmp_path, databases.url("postgres"), mode=mode, ignore_startup_parameters=ignored) as pooler:
        assert not await is_direct(f"{pooler.url(database_url)}?options=-c%20enable_seqscan%3Doff")


async def test_every_statement_has_its_settings_and_leaves_none(pooled_url):
    async with line(pooled_url, settings=db.PLANNED_ONCE) as told, line(pooled_url) as plain:
        for _ in range(3):
            # One session serves both, for there is never more than one statement at a time.
            assert (await told.rows(SET, {}))[0].now == "10s off"
            assert (await plain.rows(SET, {}))[0].now == "10s on"
            async with told.transaction() as connection:
                assert (await db.rows(connection, SET, {}))[0].now == "10s off"
        database = db.Database(pooled_url)
        async with database.transaction() as connection:
            assert (await db.rows(connection, SET, {}))[0].now == "10s on"
        async with database.snapshot() as pooled:
            (row,) = await pooled.exec_driver_sql("show transaction_isolation")
            assert row == ("repeatable read",)
            (row,) = await pooled.exec_driver_sql("show statement_timeout")
            assert row == ("10s",)
        await database.close()


async def test_a_statement_is_one_transaction_that_is_undone_as_a_whole(pooled_url, database_url):
    async with line(pooled_url) as writer, observer(database_url) as look:
        await look.rows("create table marks (mark int primary key deferrable initially deferred)")
        await writer.rows("insert into marks values (%(mark)s)", {"mark": 1})
        with pytest.raises(psycopg.errors.UniqueViolation) as refused:
            # Found out by the commit, after the rows were answered.
            await writer.rows("insert into marks values (2), (%(mark)s) returning mark", {"mark": 1})
        assert db.verdict(refused.value) is Verdict.REFUSED
        with pytest.raises(psycopg.DataError) as refused_value:
            await writer.rows("select %(value)s::json", {"value": "{"})
        assert db.verdict(refused_value.value) is Verdict.REFUSED
        assert [row.mark for row in await writer.rows("select mark from marks", {})] == [1], "the line goes on"


async def test_a_statement_that_waits_for_too_long_is_given_up_by_the_server(pooled_url, database_url):
    async with line(pooled_url, settings={"lock_timeout": "50ms"}) as waits, session(database_url) as holder:
        await holder.rows("create table held (mark int)")
        await holder.commit()
        await holder.rows("lock table held")
        with pytest.raises(psycopg.errors.LockNotAvailable) as busy:
            await waits.rows("select * from held", {})
        assert db.held(busy.value)


async def test_a_statement_whose_pooler_dies_is_lost_and_the_next_one_goes_through(pooler, pooled_url, database_url):
    async with line(pooled_url) as waits, session(database_url) as holder:
        await holder.rows("create table held (mark int)")
        await holder.commit()
        await holder.rows("lock table held")
        under_way = asyncio.ensure_future(waits.rows("insert into held values (1)", {}))
        await holder.blocks("milepost")
        pooler.stop()
        with pytest.raises(db.FAILURES) as lost:
            await under_way
        assert db.verdict(lost.value) is Verdict.LOST
        await holder.commit()
        pooler.start()
        assert [row.mark for row in await waits.rows("select 1 as mark", {})] == [1]


async def test_whoever_is_cancelled_hangs_up_and_sends_no_request_to_cancel(pooler, pooled_url, database_url):
    """PgBouncer 1.18 ends when many such requests come at once."""
    async with line(pooled_url) as waits, session(database_url) as holder:
        await holder.rows("create table held (mark int)")
        await holder.commit()
        await holder.rows("lock table held")
        under_way = asyncio.ensure_future(waits.rows("select * from held", {}))
        await holder.blocks("milepost")
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        await holder.commit()
        assert [row.mark for row in await waits.rows("select 1 as mark", {})] == [1]
    assert "cancel request" not in pooler.log


async def test_nothing_is_left_in_the_sessions_of_the_pooler(pooled_url, database_url):
    async def pays() -> int:
        return 1

    async def enters(connection: Any) -> None:
        for number in range(10):
            # So often that the driver would prepare it.
            await connection.execute("select %s", [number])

    async def program(ctx: Context) -> None:
        await ctx.step(pays)
        await ctx.set_event("paid", 1)
        await ctx.receive("go")
        await ctx.transaction(enters)

    async with AsyncExitStack() as both:
        engines = [await both.enter_async_context(running(database_url, by=pooled_url)) for _ in range(2)]
        for engine in engines:
            engine.workflow(program)
        ids = [await engine.begin(program, id=f"{n}-{at}") for n in range(20) for at, engine in enumerate(engines)]
        for id in ids:
            await engines[1].send(id, "go")
        for id in ids:
            await engines[0].output(id)
        database = db.Database(pooled_url)
        await workflows.listing(database, workflows.Filter(), after=None, limit=5, include=frozenset())
        await database.close()
        await look_into_all(pooled_url)
        async with observer(database_url) as look:
            (locks,) = await look.rows(LOCKS)
            assert locks.count == 0


async def look_into_all(pooled_url: str) -> None:
    """All sessions of the pool are had at once, each by a transaction."""
    connections = [await psycopg.AsyncConnection.connect(pooled_url, prepare_threshold=None) for _ in range(POOL - 5)]
    try:
        for connection in connections:
            found = await (await connection.execute(LEFT)).fetchone()
            assert found == (0, "0", "on")
    finally:
        for connection in connections:
            await connection.close()


async def test_executors_behind_a_pooler_and_beside_it_know_each_other_for_what_they_are(pooled_url, database_url):
    async with AsyncExitStack() as both:
        engines: dict[str, Engine] = {}
        for name, by in (("direct", database_url), ("pooled", pooled_url)):
            engines[name] = await both.enter_async_context(running(database_url, by=by, time_to_live=3600.0))
        ids = {name: engine.runtime.executor_id() for name, engine in engines.items()}
        for engine in engines.values():
            async with line(database_url) as seen:
                beat = await executors.beat(seen, ExecutorId("nobody"), 0)
            assert {(peer.id, peer.direct, peer.locked) for peer in beat.peers} == {
                (ids["direct"], True, True),
                (ids["pooled"], False, True),
            }
            await engine.runtime._pulse.tick()
        assert engines["pooled"].runtime._notifier.wanted, "there is one who hears"
        assert not engines["direct"].runtime._notifier.wanted, "nobody would hear"


async def test_an_executor_that_comes_back_by_a_pooler_has_no_lock_to_be_missed(pooler, database_url, pooled_url):
    """And one that comes back past it has."""
    me = ExecutorId("me")

    async def register(url: str) -> executors.Peer:
        async def opened(connection: db.Connection) -> None:
            assert await executors.register(connection, me, host="here", pid=1, version="test", lock_key=7)

        async with line(url, opened=opened) as pulse:
            await executors.beat(pulse, me, 0)
            assert await executors.hold(pulse, 7), "what is its own already, or is not there to be held, is no loss"
            async with line(database_url) as other:
                return (await executors.beat(other, ExecutorId("other"), 0)).peers[0]

    for url, direct in ((database_url, True), (pooled_url, False), (database_url, True)):
        peer = await register(url)
        assert (peer.direct, peer.locked) == (direct, True)

    async def free() -> bool:
        async with observer(database_url) as look:
            return (await look.rows(LOCKS))[0].count == 0

    await eventually(free, message="a lock was left behind")


def test_the_schema_is_brought_up_by_way_of_a_pooler(pooler, empty_database_url):
    assert migrations.migrate(pooler.url(empty_database_url)) == migrations.head()
