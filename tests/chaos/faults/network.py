"""Faults of the network between replicas and their database."""

import asyncio
import random
import time
from collections import Counter

import psycopg

from app.store.embedded import DATABASE, USER
from tests.chaos.cluster import TIME_TO_LIVE, Replica
from tests.chaos.faults.stage import Fault, Stage, Strike
from tests.chaos.proxy import Cut, Link, Way


async def partition(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """Nothing passes, or nothing in one direction; and nobody is told."""
    replica = stage.replica(rng)
    ways = rng.choice(((Way.UP, Way.DOWN), (Way.UP,), (Way.DOWN,)))
    strike.target = f"{replica.name}, {' and '.join(ways)}"
    async with replica.busy:
        ran = await stage.ran_by(replica)
        since = time.monotonic()
        replica.proxy.hold(*ways)
        try:
            await stage.gone_elsewhere(strike, ran, since, "taken over", timeout=TIME_TO_LIVE + 4)
            await asyncio.sleep(max(0.0, since + TIME_TO_LIVE + rng.uniform(1, 5) - time.monotonic()))
            strike.saw(f"{replica.proxy.kept} packets held, {await stage.standing(replica)}", replica.proxy.kept)
        finally:
            replica.proxy.heal()
        await stage.serving_again(strike, time.monotonic(), replica.name)


async def reset(stage: Stage, strike: Strike, rng: random.Random) -> None:
    replica = stage.replica(rng)
    strike.target = replica.name
    async with replica.busy:
        count = 0
        for _ in range(rng.randint(1, 6)):
            count += replica.proxy.reset()
            await asyncio.sleep(rng.uniform(0.1, 1))
        strike.saw(f"{count} connections reset", count)
        await stage.serving_again(strike, time.monotonic(), replica.name)


async def half_open(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """The database's side of every connection goes away, and the replica is not told."""
    replica = stage.replica(rng)
    strike.target = replica.name
    async with replica.busy:
        links = list(replica.proxy.links)
        for link in links:
            link.half_open()
        strike.saw(f"{len(links)} connections half open", links)
        try:
            await asyncio.sleep(rng.uniform(3, 14))
        finally:
            replica.proxy.heal()
        await stage.serving_again(strike, time.monotonic(), replica.name)


def _of_journal(link: Link, data: bytes) -> bool:
    return link.duty.startswith("milepost journal")


def _commits(link: Link, data: bytes) -> bool:
    return b"COMMIT" in data


def _of_mail(link: Link, data: bytes) -> bool:
    return link.duty.endswith("mail")


def _of_anybody(link: Link, data: bytes) -> bool:
    return link.duty != "milepost"  # which is how a session is called before it has a duty


def _of_takers(link: Link, data: bytes) -> bool:
    return link.duty in ("milepost claims", "milepost recovery", "milepost wake", "milepost pulse")


WANTED = {
    "journal": _of_journal,
    "commits": _commits,
    "mail": _of_mail,
    "claims and beats": _of_takers,
    "everything": _of_anybody,
}
WEIGHTS = (3, 4, 2, 2, 2)


async def _cut(stage: Stage, strike: Strike, rng: random.Random, cut: Cut) -> None:
    replica: Replica = stage.replica(rng)
    what = rng.choices(list(WANTED), WEIGHTS)[0]
    strike.target = f"{replica.name}, {what}"
    async with replica.busy:
        count = rng.randint(3, 12)
        replica.proxy.order_cuts(cut, count, WANTED[what])
        until = time.monotonic() + 8
        while len(replica.proxy.cuts) < count and time.monotonic() < until:
            await asyncio.sleep(0.05)
        replica.proxy.heal()
        cuts = Counter(duty.removeprefix("milepost ") for duty in replica.proxy.cuts)
        strike.saw(", ".join(f"{duty} {n}" for duty, n in cuts.items()) or "nothing cut", cuts)
        await stage.serving_again(strike, time.monotonic(), replica.name)


async def cut_before(stage: Stage, strike: Strike, rng: random.Random) -> None:
    await _cut(stage, strike, rng, Cut.BEFORE)


async def cut_after(stage: Stage, strike: Strike, rng: random.Random) -> None:
    await _cut(stage, strike, rng, Cut.AFTER)


async def slow(stage: Stage, strike: Strike, rng: random.Random) -> None:
    """Each packet of every replica takes 200 ± 100 ms, each way."""
    proxies = [replica.proxy for replica in stage.cluster.replicas.values()]
    strike.target = "all"
    for proxy in proxies:
        proxy.delay = (0.2, 0.1)
    try:
        took = await _round_trip(proxies[0].port)
        strike.saw(f"a round trip took {1000 * took:.0f} ms", took > 0.15)
        await asyncio.sleep(rng.uniform(4, 8))
    finally:
        for proxy in proxies:
            proxy.delay = None


async def _round_trip(port: int) -> float:
    url = f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}?sslmode=disable&gssencmode=disable"
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10)
    try:
        began = time.monotonic()
        await connection.execute("select 1")
        return time.monotonic() - began
    finally:
        await connection.close()


async def lose_notifications(stage: Stage, strike: Strike, rng: random.Random) -> None:
    proxies = [replica.proxy for replica in stage.cluster.replicas.values()]
    strike.target = "all"
    before = sum(proxy.swallowed for proxy in proxies)
    for proxy in proxies:
        proxy.swallows = True
    try:
        await asyncio.sleep(rng.uniform(4, 8))
    finally:
        for proxy in proxies:
            proxy.swallows = False
    count = sum(proxy.swallowed for proxy in proxies) - before
    strike.saw(f"{count} notifications lost", count)


ONE_REPLICA = (
    Fault("partition of a replica", partition, 3),
    Fault("connections of a replica reset", reset),
    Fault("connections of a replica half open", half_open),
    Fault("connection cut before the statement arrives", cut_before, 2),
    Fault("connection cut after the commit", cut_after, 3),
)
EVERYBODY = (
    Fault("slow database, 200 ± 100 ms", slow),
    Fault("notifications lost", lose_notifications),
)
