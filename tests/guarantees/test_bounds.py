"""The service refuses what it has no room for, at once, and says when to come again."""

import asyncio
from typing import Any

import pytest

from app import Context
from app.api import problems
from app.errors import Overloaded, Unavailable, known
from app.model import WorkflowId
from tests.support.engine import Engine, running
from tests.support.points import Gate, at
from tests.support.waiting import eventually

CONNECTIONS = 26
"""Of a process, as docs/operations/settings.md says."""


async def test_no_more_starts_wait_for_the_database_than_the_buffer_holds(database_url):
    async with running(database_url, start_buffer=3) as engine:

        @engine.workflow
        async def echo(ctx: Context, n: int) -> int:
            return n

        slow = Gate()
        with at(journal__before_flush=slow):
            accepted = [engine.beside(engine.begin(echo, n)) for n in range(3)]
            await slow.reached()
            await eventually(lambda: len(engine.runtime._journal.in_flight) == 3)
            for n in range(5):
                with pytest.raises(Overloaded):
                    await engine.begin(echo, n, id=f"refused {n}")
            slow.open()
            assert [await engine.output(await start) for start in accepted] == [0, 1, 2]
        assert await engine.run(echo, 4) == 4
        assert await engine.one("select count(*) from workflows") == 4


async def test_there_are_so_many_seats_and_they_are_free_again(database_url):
    async with running(database_url, waiting=2) as engine:
        hub = engine.runtime.hub
        for _ in range(2):
            with hub.seat(), hub.seat(), pytest.raises(Overloaded), hub.seat():
                pytest.fail("there is a third seat")
            with pytest.raises(ZeroDivisionError), hub.seat():
                _ = 1 / 0


@pytest.mark.parametrize("kind", [kind for kind in known().values() if issubclass(kind, Unavailable)])
def test_whoever_is_to_come_again_is_told_when(kind):
    response = problems.respond(kind(), {"type": "http", "path": "/workflows", "headers": []})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.direct
async def test_a_process_has_so_many_connections_and_no_more(engine: Engine):
    """With everything going on at once that takes one."""
    await engine.execute("create table ledger (n int)")
    most, done = 0, asyncio.Event()
    count = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name like 'milepost%%'"
    )

    async def enter(connection: Any, n: int) -> int:
        await connection.execute("insert into ledger values (%s)", [n])
        return n

    @engine.workflow
    async def busy(ctx: Context, n: int) -> int:
        await ctx.transaction(enter, n)
        await ctx.set_event("page", "x" * 50_000)
        await ctx.send(ctx.workflow_id, "word", n)
        return int(await ctx.receive("word"))

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, await engine.one(count))

    watching = engine.beside(watch())
    ids = [WorkflowId(await engine.begin(busy, n)) for n in range(40)]
    boards = [engine.runtime.views.board(id, after_key=None, limit=9) for id in ids]
    await asyncio.gather(*(engine.output(id, 30) for id in ids), *boards)
    done.set()
    await watching
    assert 5 < most <= CONNECTIONS
