"""Faults of processes: killed, stopped, told to end, ended by what they run, and with a wrong clock."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

from tests.chaos.client import wall
from tests.chaos.cluster import CLOCKED, RIGHT, TIME_TO_LIVE, Replica
from tests.chaos.faults.stage import Fault, Stage, Strike
from tests.chaos.program import poison

HOUR = 3600


@asynccontextmanager
async def down(replica: Replica) -> AsyncIterator[None]:
    """Nobody starts this replica again in between; afterwards it is started."""
    replica.wanted = False
    try:
        yield
    finally:
        if not replica.wanted:
            replica.begin()


async def kill(stage: Stage, strike: Strike, rng: random.Random) -> None:
    replica = stage.replica(rng)
    strike.target = replica.name
    async with replica.busy:
        async with down(replica):
            ran = await stage.ran_by(replica)
            since = time.monotonic()
            replica.kill()
            strike.saw(f"exit code {replica.process.returncode}", replica.process.returncode == -signal.SIGKILL)
            watch = asyncio.create_task(stage.gone_elsewhere(strike, ran, since, "taken over"))
            await asyncio.sleep(rng.choice((0.2, 1.0, 4.0)))
        await watch
        await stage.cluster.ready(stage.client, replica.name)


async def kill_all(stage: Stage, strike: Strike, rng: random.Random) -> None:
    replicas = list(stage.cluster.replicas.values())
    strike.target = "all"
    async with AsyncExitStack() as locks:
        for replica in replicas:
            await locks.enter_async_context(replica.busy)
        async with AsyncExitStack() as absent:
            for replica in replicas:
                await absent.enter_async_context(down(replica))
            ran = await stage.ran_by(*replicas)
            for replica in replicas:
                replica.signal(signal.SIGKILL)
            codes = [await replica.ended() for replica in replicas]
            strike.saw(f"exit codes {codes}", all(code == -signal.SIGKILL for code in codes))
            await asyncio.sleep(rng.uniform(0, 1.5))
        since = time.monotonic()
        await stage.serving_again(strike, since, *stage.cluster.replicas)
        await stage.gone_elsewhere(strike, ran, since, "taken over after the restart")


async def freeze(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """Stopped for longer than its time-to-live: a zombie, when it comes back."""
    replica = stage.replica(rng)
    strike.target = replica.name
    async with replica.busy:
        ran = await stage.ran_by(replica)
        since = time.monotonic()
        replica.signal(signal.SIGSTOP)
        try:
            await stage.gone_elsewhere(strike, ran, since, "taken over", timeout=TIME_TO_LIVE + 4)
            await asyncio.sleep(max(0.0, since + TIME_TO_LIVE + rng.uniform(1, 4) - time.monotonic()))
            state = _state(replica)
            strike.saw(f"state {state}, {await stage.standing(replica)}", state == "T")
        finally:
            replica.signal(signal.SIGCONT)
        await stage.serving_again(strike, time.monotonic(), replica.name)


async def hiccup(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """Stopped for less than its time-to-live."""
    replica = stage.replica(rng)
    strike.target = replica.name
    async with replica.busy:
        replica.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(rng.uniform(0.5, 3.5))
            strike.saw(f"state {_state(replica)}", _state(replica) == "T")
        finally:
            replica.signal(signal.SIGCONT)


def _state(replica: Replica) -> str:
    return Path(f"/proc/{replica.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def roll(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """All replicas are told to end, one after the other, and started again."""
    strike.target = "all, in turn"
    for replica in rng.sample(list(stage.cluster.replicas.values()), 3):
        async with replica.busy:
            async with down(replica):
                ran = await stage.ran_by(replica)
                since = time.monotonic()
                replica.signal(signal.SIGTERM)
                code = await replica.ended()
                ended = time.monotonic()
                strike.saw(f"{replica.name}: exit code {code}", code == 0)
                strike.figures["exit after SIGTERM"] = max(strike.figures.get("exit after SIGTERM", 0), ended - since)
                if code != 0:
                    stage.load.records.violate(f"replica {replica.name} ended with {code} after SIGTERM")
                await stage.gone_elsewhere(strike, ran, ended, "handed over after the exit")
            await stage.cluster.ready(stage.client, replica.name)


async def poison_one(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """A workflow ends every process that runs it, until it is given up."""
    program = poison(stage.seed, rng.randrange(10**9))
    before = sum(replica.poisoned for replica in stage.cluster.replicas.values())
    stage.load.begin([program], program.name)
    since = time.monotonic()
    while time.monotonic() < since + 90:
        rows = await stage.rows("select status from workflows where id = %s", [program.name])
        if rows and rows[0].status == "DEAD":
            strike.figures["given up after"] = time.monotonic() - since
            break
        await asyncio.sleep(0.2)
    ends = sum(replica.poisoned for replica in stage.cluster.replicas.values()) - before
    strike.saw(f"{ends} processes ended", ends > 0)
    await stage.cluster.ready(stage.client)


async def shift_clock(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """One replica's clock is an hour ahead or behind: from one moment to the next, or from its start on."""
    replica = stage.cluster.replicas[CLOCKED]
    shift = rng.choice((HOUR, -HOUR))
    async with replica.busy:
        restarts = rng.random() < 0.4
        strike.target = f"{replica.name}, {shift:+d} s{' from its start' if restarts else ''}"
        try:
            replica.set_clock(f"{shift:+d}")
            if restarts:
                async with down(replica):
                    replica.kill()
                await stage.cluster.ready(stage.client, replica.name)
            await asyncio.sleep(rng.uniform(3, 6))
            answer = await stage.client.peek(replica.name, "/healthz")
            if answer is not None:
                told = parsedate_to_datetime(answer.headers["date"]).timestamp()
                off = told - wall(time.monotonic())
                strike.saw(f"its clock was read {off:+.0f} s off", abs(off - shift) < 60)
        finally:
            replica.set_clock(RIGHT)
        await asyncio.sleep(1.5)


FAULTS = (
    Fault("SIGKILL of a replica", kill, 4),
    Fault("SIGKILL of all replicas", kill_all),
    Fault("SIGSTOP beyond the time-to-live", freeze, 2),
    Fault("SIGSTOP for a moment", hiccup),
    Fault("SIGTERM, rolling restart", roll),
    Fault("poison: a workflow ends its process", poison_one),
    Fault("clock of a replica off by an hour", shift_clock, 2),
)
