"""Recovery: finds out which executors are dead, and takes over what they ran.

Dead is who has given no heartbeat for the time-to-live; or whose session lock was free at two looks with
no heartbeat in between. A restart of PostgreSQL frees all locks at once and silences everybody, so after
one nobody is declared dead before a whole time-to-live of service. Nor does silence alone prove anything to a
process that has been there for less than that: an outage may have been over just before it began.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from app import telemetry
from app.engine import tasks
from app.engine.executor import CLAIM, Executor
from app.engine.points import around
from app.engine.pulse import Pulse
from app.engine.service import Service
from app.model import ExecutorId
from app.store import db, executors, workflows
from app.store.executors import Beat, Peer

log = telemetry.logger(__name__)

BETWEEN_LOOKS = 1.7
"""Seconds, and heartbeats, between two looks at a free lock: whoever lives has given a sign by then, and what a killed
process ran goes on within three."""
IDLE = 3600.0
SOON = 0.2
"""Seconds until it is tried again to take over what somebody just held."""
PATIENCE = 5.0
"""Seconds until it is tried again to take over what there was no room for, or what nobody here has registered."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    since: float
    heartbeat_at: float


class Recovery(Service):
    """Ticks when there is somebody to take over from."""

    name = "recovery"

    def __init__(
        self, database: db.Database, *, executor: Executor, pulse: Pulse, beat: float, time_to_live: float
    ) -> None:
        super().__init__(interval=IDLE)
        self._between = BETWEEN_LOOKS * max(1.0, beat)
        self._line = db.Line(database, "recovery")
        self._executor, self._pulse, self._time_to_live = executor, pulse, time_to_live
        self._suspects: dict[ExecutorId, Suspicion] = {}
        self._orphans: frozenset[tuple[str, int]] = frozenset()
        self._tried = float("-inf")
        self._left = False
        self._beaten = self._steady = float("-inf")
        self._first = float("inf")

    # ---- what each beat brings

    async def examine(self, beat: Beat, in_flight: set[str]) -> None:
        """Look at the peers, and at what is this executor's by the table."""
        now = asyncio.get_running_loop().time()
        if now - self._beaten > self._time_to_live / 2 and self._beaten > float("-inf"):
            # The database was away for this process, so perhaps for all.
            self._steady = now
        self._beaten, self._first = now, min(now, self._first)
        dead = [peer.id for peer in beat.peers if peer.alive and self._is_dead(peer, beat)]
        if dead:
            since = max(peer.heartbeat_at for peer in beat.peers if peer.id in dead)
            for id in await self._pulse.bury(dead, since=since):
                log.warning("an executor is dead, its workflows are taken over", executor=id)
                self._tried = float("-inf")
        if (dead or beat.lost or any(not peer.alive for peer in beat.peers)) and now - self._tried >= PATIENCE:
            self._tried = now
            self.poke()
        await self._adopt(beat, in_flight)

    def _is_dead(self, peer: Peer, beat: Beat) -> bool:
        if beat.uptime < self._time_to_live:
            return False
        now = asyncio.get_running_loop().time()
        # What kept them silent may have been an outage that was over just before this process began.
        if peer.silent_for > self._time_to_live and now - self._first >= self._time_to_live:
            return now - self._steady >= self._time_to_live
        suspicion = self._suspects.get(peer.id)
        if peer.locked or suspicion is None or suspicion.heartbeat_at != peer.heartbeat_at:
            self._suspects.pop(peer.id, None)
            if not peer.locked:
                self._suspects[peer.id] = Suspicion(now, peer.heartbeat_at)
                # The second look need not wait for the next beat.
                asyncio.get_running_loop().call_later(self._between, self._pulse.poke)
            return False
        return now - suspicion.since >= self._between

    async def _adopt(self, beat: Beat, in_flight: set[str]) -> None:
        """A claim or a start whose answer was lost leaves a workflow that is ours and that nobody runs.

        It takes two beats in a row to see one: what had been on its way at the first has arrived by the second.
        """
        unknown = frozenset(
            (id, generation)
            for id, generation in beat.running
            if id not in in_flight and not self._executor.holds(id, generation)
        )
        orphans, self._orphans = unknown & self._orphans, unknown
        if orphans:
            adopt = workflows.adopt(self._line, self._pulse.id, sorted(orphans)[:CLAIM])
            taken = await around("recovery.adopt", adopt)
            log.info("workflows without an owner in memory were adopted", count=len(taken))
            # Not here: this is the beat, and reading their records may take longer than one.
            tasks.spawn(self._executor.take(taken), name="adopt")

    # ---- taking over

    def pause(self) -> float:
        return SOON if self._left else IDLE

    async def tick(self) -> None:
        taken_over = 0
        while not self._stopping and (room := min(self._executor.room, CLAIM)) > 0:
            take_over = workflows.take_over(self._line, self._pulse.id, self._executor.definitions, room)
            taken, seen = await around("recovery.take_over", take_over)
            await self._executor.take(taken)
            taken_over += seen
            if seen < room:
                # A message, say, was being sent to one of them: its row was locked, and so it was passed over.
                any_lost = workflows.any_lost(self._line, self._executor.definitions)
                self._left = await around("recovery.look", any_lost)
                await around("recovery.forget", executors.forget(self._line))
                break
        if taken_over:
            log.info("workflows were taken over", count=taken_over)
        # Even if there was nothing to take over: the dead may have committed the end of a workflow, the last thing
        # they ran, and not have woken yet who is parked until then.
        await self._executor.sweep_waits()

    async def bury_absent(self) -> None:
        """Declare dead whoever says it lives on this host and has no process here any more.

        Only for a database that serves this host alone: elsewhere two hosts may have one name.
        """
        absent = [id for id, pid in await self._pulse.neighbours() if not _exists(pid)]
        if absent:
            await self._pulse.bury(absent, proven=True)
            self.poke()

    async def stop(self) -> None:
        await super().stop()
        await self._line.close()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
