"""Which fault comes when: two lanes, so that faults of replicas and of the database overlap now and then."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from tests.chaos.faults import database, network, processes
from tests.chaos.faults.stage import Fault, Stage, Strike

LANES: dict[str, Sequence[Fault]] = {
    "replicas": (*processes.FAULTS, *network.ONE_REPLICA),
    "database": (*database.FAULTS, *network.EVERYBODY),
}
ALONE = 0.35
"""How many of the faults strike while there is no other, so that it can be seen what follows from each."""
LONGEST = 120.0
"""Seconds that a fault may take, its healing included."""


def deck(rng: random.Random, faults: Sequence[Fault]) -> Iterator[Fault]:
    """All faults, as often as they weigh, in a random order; and so on."""
    while True:
        cards = [fault for fault in faults for _ in range(fault.weight)]
        rng.shuffle(cards)
        yield from cards


class Schedule:
    def __init__(self, stage: Stage, told: Callable[[Strike], None], only: Sequence[str] = ()) -> None:
        self._stage, self._told, self._only = stage, told, only
        self.strikes: list[Strike] = []
        self._door = asyncio.Lock()
        self._places = asyncio.Semaphore(len(LANES))

    async def run(self, until: float) -> None:
        async with asyncio.TaskGroup() as group:
            for lane, faults in LANES.items():
                wanted = [f for f in faults if not self._only or any(part in f.name for part in self._only)]
                if wanted:
                    group.create_task(self._play(lane, wanted, until), name=f"faults of {lane}")

    async def _play(self, lane: str, faults: Sequence[Fault], until: float) -> None:
        rng = random.Random(f"{self._stage.seed}/{lane}")
        for fault in deck(rng, faults):
            pause, alone, own = rng.uniform(1, 6), rng.random() < ALONE, random.Random(rng.random())
            await asyncio.sleep(min(pause, until - time.monotonic()))
            async with self._place(alone=alone):
                if time.monotonic() >= until:
                    return
                await self.strike(fault, own)

    @asynccontextmanager
    async def _place(self, *, alone: bool) -> AsyncIterator[None]:
        """Room for a fault, beside another one or without."""
        places = len(LANES) if alone else 1
        async with self._door:
            for _ in range(places):
                await self._places.acquire()
        try:
            yield
        finally:
            for _ in range(places):
                self._places.release()

    async def strike(self, fault: Fault, rng: random.Random) -> None:
        strike = Strike(fault.name, began=time.monotonic())
        self.strikes.append(strike)
        try:
            async with asyncio.timeout(LONGEST):
                await fault.act(self._stage, strike, rng)
        except Exception as error:
            # As when the database is restarted while a rival of the other lane holds something: told, and not counted.
            strike.error = f"{type(error).__name__}: {error}"
        strike.healed = time.monotonic()
        self._told(strike)
