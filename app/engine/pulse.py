"""The pulse: one statement a second that says this executor is alive, and brings what it must know.

It sets the clock by the database's, finds workflows that are this executor's by the table but not in its
memory, wakes the executor when something is due, and hands recovery what it saw of the other executors.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
import zlib
from collections.abc import Awaitable, Callable

from app import telemetry
from app.engine.clock import Clock
from app.engine.points import around
from app.engine.service import Service
from app.errors import DatabaseUnavailable
from app.model import ExecutorId
from app.store import db, executors, migrations
from app.store.executors import Beat

log = telemetry.logger(__name__)


class Pulse(Service):
    name = "pulse"

    def __init__(
        self,
        database: db.Database,
        *,
        clock: Clock,
        version: str,
        interval: float,
        hint: Callable[[], int],
        beaten: Callable[[Beat], Awaitable[None]],
        recovered: Callable[[], None],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        """`hint` gives the number of the last hint that was sent. `beaten` is handed each beat, `recovered` called
        when the database is back after it was away, `lost` when this executor was declared dead: it is
        somebody else from then on."""
        super().__init__(interval)
        self._line = db.Line(database, "pulse", opened=self._register)
        self._clock, self._version, self._hint = clock, version, hint
        self._beaten, self._recovered, self._lost = beaten, recovered, lost
        self._away = self._reborn = self._locked = False
        self.id = _new_id()
        self.host = socket.gethostname()

    async def tick(self) -> None:
        beat = await around("pulse.beat", executors.beat(self._line, self.id, self._hint()))
        self._clock.set(beat.at)
        if not self._locked:
            # After a reconnection an earlier session of ours may have held it for a while longer.
            self._locked = await around("pulse.hold", executors.hold(self._line, self._lock_key))
        if not beat.alive:
            log.warning("this executor was declared dead, and goes on as another", executor=self.id)
            self.id, self._reborn = _new_id(), True
            await self._line.close()
            self.poke()
            return
        if self._reborn:
            # Known under the new name by now, so nobody takes for lost what is written under it.
            self._reborn = False
            await self._lost()
        if self._away:
            self._away = False
            log.info("the database is back")
            self._recovered()
        await self._beaten(beat)

    def failed(self, error: Exception, failures: int) -> None:
        if not self._away:
            self._away = True
            log.warning("the database does not answer, trying again", error=db.reason(error))

    async def probe(self) -> None:
        """Raises DatabaseUnavailable unless the database takes a write and has the schema that this code needs."""
        async with db.available():
            revision = await around("pulse.probe", executors.probe(self._line, self.id))
        if not migrations.suffices(revision):
            raise DatabaseUnavailable("The database's schema is older than this service needs: run `migrate`.")

    async def neighbours(self) -> list[tuple[ExecutorId, int]]:
        """Executors that say they live on this host, with their process ids."""
        return await around("pulse.here", executors.here(self._line, self.id, self.host))

    async def bury(self, ids: list[ExecutorId], *, since: float = 0.0, proven: bool = False) -> list[ExecutorId]:
        return await around("pulse.bury", executors.bury(self._line, ids, since=since, proven=proven))

    async def stop(self) -> None:
        """Say goodbye after the last beat: whoever is left need not find out."""
        await super().stop()
        try:
            async with db.available(), asyncio.timeout(2):
                await around("pulse.leave", executors.leave(self._line, self.id))
        except DatabaseUnavailable:
            log.info("no goodbye could be said: the database is away")
        await self._line.close()

    async def _register(self, connection: db.Connection) -> None:
        register = executors.register(
            connection,
            self.id,
            host=self.host,
            pid=os.getpid(),
            version=self._version,
            lock_key=self._lock_key,
        )
        self._locked = await around("pulse.register", register)

    @property
    def _lock_key(self) -> int:
        return zlib.crc32(self.id.encode()) << 31 | zlib.adler32(self.id.encode()) >> 1


def _new_id() -> ExecutorId:
    return ExecutorId(uuid.uuid4().hex)
