"""Faults of PostgreSQL: sessions ended, statements cancelled, restarts, a full disk, locks that somebody holds."""

import asyncio
import random
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.faults.stage import Fault, Stage, Strike

SESSIONS = "select pid from pg_stat_activity where application_name like 'milepost%%' and pid <> pg_backend_pid()"
BLOCKED = "select count(*) as n from pg_stat_activity where %s = any (pg_blocking_pids(pid))"


class Words:
    """How often the server's log has said something since."""

    def __init__(self, log: Path) -> None:
        self._log, self._from = log, log.stat().st_size

    def count(self, words: str) -> int:
        with self._log.open("rb") as log:
            log.seek(self._from)
            return log.read().count(words.encode())


async def _repeat(stage: Stage, statement: str, seconds: float, pause: float) -> int:
    """Run a statement again and again; how many of its rows were true."""
    done, until = 0, time.monotonic() + seconds
    async with stage.cluster.postgres.session() as session:
        while time.monotonic() < until:
            rows = await (await session.execute(statement)).fetchall()
            done += sum(bool(row[0]) for row in rows)
            await asyncio.sleep(pause)
    return done


async def terminate_sessions(stage: Stage, strike: Strike, rng: random.Random) -> None:
    statement = f"select pg_terminate_backend(pid) from ({SESSIONS} order by random() limit 2) s".replace("%%", "%")
    count = await _repeat(stage, statement, rng.uniform(2, 5), 0.2)
    strike.saw(f"{count} sessions ended", count)


async def terminate_listeners(stage: Stage, strike: Strike, rng: random.Random) -> None:
    statement = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'milepost listener'"
    count = await _repeat(stage, statement, rng.uniform(4, 7), 0.7)
    strike.saw(f"{count} listeners ended", count)


async def cancel_statements(stage: Stage, strike: Strike, rng: random.Random) -> None:
    words = Words(stage.cluster.postgres.log)
    statement = f"select pg_cancel_backend(pid) from ({SESSIONS} and state = 'active') s".replace("%%", "%")
    await _repeat(stage, statement, rng.uniform(2, 4), 0.005)
    count = words.count("canceling statement due to user request")
    strike.saw(f"{count} statements cancelled", count)


async def _restart(stage: Stage, strike: Strike, how: signal.Signals) -> None:
    postgres = stage.cluster.postgres
    began = "select pg_postmaster_start_time()::text as at"
    before = (await stage.rows(began))[0].at
    left = time.monotonic()
    await postgres.restart(how)
    back = time.monotonic()
    strike.saw(f"away for {back - left:.1f} s", (await stage.rows(began))[0].at != before)
    await stage.accepting_again(strike, back)
    await stage.serving_again(strike, back)


async def restart_immediately(stage: Stage, strike: Strike, rng: random.Random) -> None:
    await _restart(stage, strike, signal.SIGQUIT)


async def restart_fast(stage: Stage, strike: Strike, rng: random.Random) -> None:
    await _restart(stage, strike, signal.SIGINT)


async def kill_session(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """One server process is killed, and PostgreSQL ends all others, for their memory may be broken."""
    words = Words(stage.cluster.postgres.log)
    pid = rng.choice([row.pid for row in await stage.rows(SESSIONS.replace("%%", "%"))])
    killer = await asyncio.create_subprocess_exec("kill", "-9", str(pid))
    await killer.wait()
    since = time.monotonic()
    while not words.count("all server processes terminated") and time.monotonic() < since + 10:
        await asyncio.sleep(0.05)
    strike.saw("all sessions ended", words.count("all server processes terminated"))
    await stage.cluster.postgres.ensure()
    await stage.serving_again(strike, time.monotonic())


async def fill_disk(stage: Stage, strike: Strike, rng: random.Random) -> None:
    postgres = stage.cluster.postgres
    words = Words(postgres.log)
    postgres.volume.fill()
    try:
        await asyncio.sleep(rng.uniform(3, 6))
        count = words.count("No space left on device")
        strike.saw(f"{count} statements met a full disk", count)
    finally:
        postgres.volume.widen()
    await postgres.ensure()
    await stage.serving_again(strike, time.monotonic())


async def read_only(stage: Stage, strike: Strike, rng: random.Random) -> None:
    words = Words(stage.cluster.postgres.log)
    await stage.rows("alter system set default_transaction_read_only = on")
    try:
        await stage.rows("select pg_reload_conf()")
        await asyncio.sleep(rng.uniform(2, 5))
        count = words.count("read-only transaction")
        strike.saw(f"{count} statements refused", count)
    finally:
        await stage.rows("alter system reset default_transaction_read_only")
        await stage.rows("select pg_reload_conf()")
    await stage.serving_again(strike, time.monotonic())


async def _rival(stage: Stage, strike: Strike, seconds: float, *statements: str) -> None:
    """A transaction that holds something while others want it."""
    async with stage.cluster.postgres.session() as session, session.transaction():
        for statement in statements:
            await session.execute(statement)
        until, blocked = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            await asyncio.sleep(0.25)
            rows = await stage.rows(BLOCKED, [session.info.backend_pid])
            blocked = max(blocked, rows[0].n)
    strike.saw(f"{blocked} sessions waited for it", blocked)


async def hold_rows(stage: Stage, strike: Strike, rng: random.Random) -> None:
    rows = "select from workflows where completed_at is null order by id limit 60 for update skip locked"
    await _rival(stage, strike, rng.uniform(1.5, 4), rows)


async def hold_table(stage: Stage, strike: Strike, rng: random.Random) -> None:
    table = rng.choice(("events", "steps", "workflows", "messages"))
    strike.target = table
    mode = rng.choice(("access exclusive", "share row exclusive"))
    # Whoever is before it in the queue must not make everybody behind it wait for long.
    await _rival(stage, strike, rng.uniform(1.5, 4), "set local lock_timeout = '5s'", f"lock {table} in {mode} mode")


async def exhaust_connections(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """A rival takes all connections that the server has, while a replica needs new ones."""
    postgres = stage.cluster.postgres
    words = Words(postgres.log)
    async with AsyncExitStack() as rivals:
        try:
            while True:
                await rivals.enter_async_context(postgres.session())
        except psycopg.OperationalError:
            pass
        own = words.count("too many clients")
        replica = stage.replica(rng)
        strike.target = replica.name
        replica.proxy.reset()
        await asyncio.sleep(0.2)
        try:
            while True:
                await rivals.enter_async_context(postgres.session())
        except psycopg.OperationalError:
            own += 1
        await asyncio.sleep(rng.uniform(2, 4))
        count = words.count("too many clients") - own
        strike.saw(f"{count} connections refused", count > 0)
    await stage.serving_again(strike, time.monotonic())


FAULTS: tuple[Any, ...] = (
    Fault("sessions ended at random", terminate_sessions, 2),
    Fault("listeners ended", terminate_listeners),
    Fault("statements cancelled at random", cancel_statements),
    Fault("PostgreSQL restarted, -m immediate", restart_immediately, 3),
    Fault("PostgreSQL restarted, -m fast", restart_fast),
    Fault("a server process of PostgreSQL killed", kill_session),
    Fault("disk full", fill_disk, 2),
    Fault("database read-only", read_only),
    Fault("rows held by a rival", hold_rows),
    Fault("a table held by a rival", hold_table),
    Fault("no connections left", exhaust_connections),
)
