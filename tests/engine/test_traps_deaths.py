"""Who is dead, and who only seems so: a process that lives is not taken over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app import Context
from app.engine import recovery
from tests.support import rows
from tests.support.beats import beat, rests
from tests.support.engine import Engine, running
from tests.support.points import Gate, at
from tests.support.sessions import Session, observer
from tests.support.waiting import eventually

pytestmark = pytest.mark.direct

BETWEEN = 0.15
SIGN = "update executors set heartbeat_at = now() where id = 'peer'"
SILENT = "update executors set heartbeat_at = now() - interval '1 hour' where id = 'peer'"
CUT = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name in ('milepost pulse', 'milepost listener')"
)


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "BETWEEN_LOOKS", BETWEEN)


@pytest.fixture
async def look(database_url: str) -> AsyncIterator[Session]:
    """There is a peer, of which it is the test that says whether it lives. It holds no lock."""
    async with observer(database_url) as look:
        await rows.add_executor(look, "peer")
        yield look


async def passes(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again for a while."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def over() -> bool:
        await do()
        return loop.time() >= until

    await eventually(over, timeout=60)


async def alive(look: Session, id: str = "peer") -> bool:
    return bool(await look.rows("select id from executors where id = %(id)s and alive", {"id": id}))


async def dies(engine: Engine, look: Session) -> bool:
    """Whether the peer is dead after one more look."""
    await beat(engine)
    return not await alive(look)


async def test_who_lost_its_lock_and_beats_on_is_not_dead(database_url, look: Session):
    """As after a cut of its connection: the lock is free at every look, and there is a sign of life between them."""
    async with running(database_url, beat=1.0, time_to_live=1.0) as engine:

        async def lives() -> None:
            await look.rows(SIGN)
            await beat(engine)
            assert await alive(look)

        await passes(6 * BETWEEN, lives)
        await eventually(lambda: dies(engine, look), message="it is never dead")


async def test_a_server_that_was_just_started_buries_nobody(database_url, look: Session):
    """It has freed all locks at once, and nobody could beat while it was away."""
    (row,) = await look.rows("select extract(epoch from now() - pg_postmaster_start_time())::float8 as up")
    silent = "update executors set heartbeat_at = now() - %(seconds)s * interval '1 second' where id = 'peer'"
    await look.rows(silent, {"seconds": row.up + 600})
    async with running(database_url, beat=1.0, time_to_live=row.up + 300) as engine:

        async def lives() -> None:
            await beat(engine)
            assert await alive(look)

        await passes(4 * BETWEEN, lives)


async def test_whoever_has_just_begun_gives_those_it_finds_silent_time_to_come_back(database_url, look: Session):
    """They may have been cut off all, until a moment ago. This one holds its lock, so it lives; or hangs."""
    await look.rows(SILENT)
    await look.rows("select pg_advisory_lock(0)")
    began = asyncio.get_running_loop().time()
    async with running(database_url, beat=1.0, time_to_live=1.5) as engine:

        async def lives() -> None:
            await beat(engine)
            assert await alive(look) or asyncio.get_running_loop().time() - began >= 1.5

        await passes(4 * BETWEEN, lives)
        await eventually(lambda: dies(engine, look), message="it is never dead")


async def test_whoever_is_back_first_after_an_outage_gives_the_others_time_to_come_back(database_url, look: Session):
    async with running(database_url, beat=3600.0, time_to_live=1.5) as engine:
        loop = asyncio.get_running_loop()

        async def lives() -> None:
            await look.rows(SIGN)
            await beat(engine)

        await passes(2.0, lives)
        await look.rows(SILENT)
        # No beat of its own is answered for longer than half the time-to-live.
        away_until = loop.time() + 1.0
        await eventually(lambda: loop.time() > away_until)
        await beat(engine)
        assert await alive(look)
        await eventually(lambda: dies(engine, look), message="it is never dead")


async def test_a_beat_that_comes_before_the_burial_prevents_it(database_url, look: Session):
    burial = Gate()
    async with running(database_url, beat=1.0, time_to_live=1.0) as engine:
        await rests(engine)
        await look.rows(SILENT)
        with at(pulse__before_bury=burial):
            engine.runtime._pulse.poke()
            await burial.reached()
            await look.rows(SIGN)
            burial.open()
            await rests(engine)
        assert await alive(look)
        await look.rows(SILENT)
        await eventually(lambda: dies(engine, look), message="it is never dead")


async def test_who_loses_its_sessions_again_and_again_goes_on_as_itself(database_url, monkeypatch):
    """Two processes whose heartbeats are cut: neither takes the other's workflows, for neither is dead."""
    monkeypatch.setattr(recovery, "BETWEEN_LOOKS", 0.8)
    quick = {"beat": 0.1, "time_to_live": 3.0}
    async with running(database_url, **quick) as one, running(database_url, **quick) as other:
        both, names, go = (one, other), {one.executor, other.executor}, asyncio.Event()

        async def wait() -> str:
            await go.wait()
            return "done"

        for engine in both:

            @engine.workflow(name="work")
            async def work(ctx: Context) -> str:
                return await ctx.step(wait)

        ids = [await engine.begin("work", id=f"w{n}") for n, engine in enumerate(both)]

        async def cut() -> None:
            before = [engine.runtime._clock._base for engine in both]
            await one.rows(CUT)
            await eventually(lambda: all(e.runtime._clock._base > b for e, b in zip(both, before, strict=True)))

        await passes(2.5, cut)
        go.set()
        assert [await one.output(id) for id in ids] == ["done", "done"]
        found = await one.rows("select attempts, generation from workflows")
        assert [(row["attempts"], row["generation"]) for row in found] == [(1, 1)] * 2
        assert {one.executor, other.executor} == names
