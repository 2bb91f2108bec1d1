"""Hints between processes: what was committed here may be waited for there.

A NOTIFY inside a transaction takes a lock over the whole database until that commit is on disk. So hints are
sent after the commits they tell of, by a connection of their own that waits for no disk, many in one
statement, and only while another executor is alive. A hint may be lost; its number may not: numbers go
with the heartbeat, and whoever misses one has everybody who waits read again. Where nothing can be heard,
as behind a pooler, everybody who waits reads again every 50 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count

from app import telemetry
from app.engine.points import around, point
from app.engine.service import Service
from app.model import ExecutorId
from app.store import db, notifications
from app.store.executors import Peer

log = telemetry.logger(__name__)

BACKLOG = 10_000
"""Hints that are kept while they can't be sent; beyond that their numbers alone say that there were some."""
PROBE = 1.0
"""Seconds in which a notification to oneself must arrive, or else this connection can't listen."""
WORK = "!"
"""Stands among the ids of workflows, which have no such character: something is due, for whoever has room."""
RETRY = 0.1
"""Seconds between two tries to listen, at first; twice as many after each."""
POLL = 0.05
"""Seconds between re-checks of what waits, where nothing can be heard."""


class Notifier(Service):
    """Sends this process's hints."""

    name = "notifier"

    def __init__(self, database: db.Database, *, executor: Callable[[], ExecutorId]) -> None:
        super().__init__(interval=3600.0)
        self._line = db.Line(database, "notifier", settings=db.PLANNED_EACH_TIME | {"synchronous_commit": "off"})
        self._executor = executor
        self._ids: dict[str, None] = {}
        self.number = 0
        """The last hint's: one that was left out counts, so that its absence is noticed."""
        self.wanted = False
        """Whether anybody else is there to hear."""

    def announce(self, id: str) -> None:
        """Something of this workflow was committed."""
        if not self.wanted or len(self._ids) >= BACKLOG:
            self.number += 1
        else:
            self._ids[id] = None
            self.poke()

    async def tick(self) -> None:
        while self._ids and not self._stopping:
            ids, self._ids = list(self._ids), {}
            payloads = []
            for part in notifications.parts(ids):
                self.number += 1
                payloads.append(notifications.payload(self._executor(), self.number, part))
            await around("notifier.notify", notifications.notify(self._line, payloads))

    async def stop(self) -> None:
        """Send what there is first: the others wait for what this process has handed over."""
        await super().stop()
        self._stopping = False
        with suppress(*db.FAILURES):
            async with asyncio.timeout(1):
                await self.tick()
        await self._line.close()


class Listener:
    """Hears the hints of the others."""

    def __init__(
        self,
        database: db.Database,
        *,
        executor: Callable[[], ExecutorId],
        heard: Callable[[Sequence[str]], None],
        missed: Callable[[], None],
        polled: Callable[[int], None],
        listens: bool = True,
    ) -> None:
        """`heard` is told the ids of a hint, `missed` that some may have been lost. Where nothing is heard, `polled`
        is called instead, every `POLL` seconds while there are others, with a count. `listens`: whether to try."""
        self._database, self._executor = database, executor
        self._heard_of, self._missed, self._polled = heard, missed, polled
        self._listens = self._hears = listens
        self._heard: dict[ExecutorId, int] = {}
        self._announced: dict[ExecutorId, int] = {}
        self._peers = False
        self._polls = count()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="listener")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def compare(self, peers: Sequence[Peer]) -> None:
        """What the others had sent by their last heartbeats must have been heard by the next one."""
        self._peers = any(peer.alive for peer in peers)
        for peer in peers if self._hears else ():
            announced = self._announced.get(peer.id)
            if announced is not None and self._heard.get(peer.id, 0) < announced:
                self._heard[peer.id] = announced
                self._missed()
        alive = {peer.id: peer.hint for peer in peers if peer.alive}
        if self._announced.keys() - alive.keys():
            # Its last hints may never have been sent.
            self._missed()
        self._announced = alive
        self._heard = {id: self._heard.get(id, hint) for id, hint in self._announced.items()}

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen()
                failures = 0
            except db.FAILURES as error:
                failures += 1
                if failures == 1:
                    log.info("hints can't be heard, trying again", error=db.reason(error))
                await asyncio.sleep(min(RETRY * 2**failures, 2.0))

    async def _listen(self) -> None:
        if not self._listens:
            await self._poll(lambda: True)
        connection = await self._database.connect("listener")
        try:
            self._hears = await around("listener.listen", notifications.listen(connection, PROBE))
            if not self._hears:
                log.info("nothing can be heard by this connection to the database, as behind a pooler: polling")
                # The next connection may be of another kind.
                await self._poll(lambda: not db.abandoned(connection))
                return
            # Whatever was sent while nobody listened is found by reading.
            self._missed()
            async for text in notifications.received(connection):
                await point("listener.before_hear")
                self._hear(text)
        finally:
            await db.close(connection)

    def _hear(self, text: str) -> None:
        sender, number, ids = notifications.parse(text)
        if sender == self._executor() or not ids:
            return
        last = self._heard.get(sender)
        if last is not None and number > last + 1:
            self._missed()
        self._heard[sender] = max(number, last or 0)
        self._heard_of(ids)

    async def _poll(self, connected: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(POLL)
            if not connected():
                return
            if self._peers:
                self._polled(next(self._polls))
