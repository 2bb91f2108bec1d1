"""The runtime: builds the engine's parts, starts them in order, and stops them in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app import telemetry
from app.authoring import Context, Registry
from app.engine import failures, tasks
from app.engine.clock import Clock
from app.engine.commands import Commands
from app.engine.context import DurableContext, Surroundings
from app.engine.deadlines import Deadlines
from app.engine.effects import Tools
from app.engine.executor import Executor
from app.engine.hub import Commit, Hub
from app.engine.journal import Journal
from app.engine.lookup import Lookup
from app.engine.notifier import WORK, Listener, Notifier
from app.engine.outbound import Outbound
from app.engine.points import around
from app.engine.pulse import Pulse
from app.engine.recovery import Recovery
from app.engine.run import Run
from app.engine.views import Views
from app.errors import DatabaseUnavailable, Draining, MilepostError
from app.model import ExecutorId, Status, WorkflowId
from app.patience import PATIENCE, within
from app.store import db, messages
from app.store.executors import Beat
from app.store.workflows import Owned

log = telemetry.logger(__name__)

TRANSACTIONS = 5
"""Transactions of workflows under way at once: the pool has as many connections more for everything else."""
WORK_POLLS = 5
"""Where nothing can be heard, it is looked for work of others at one poll in so many: that is a statement each time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine may take up, and how it keeps time; durations in seconds. With a concurrency of 0 it leaves all
    workflows to other processes. Without `notifications` it asks often for what others have committed."""

    concurrency: int = 1_000
    step_threads: int = 64
    start_buffer: int = 10_000
    waiting: int = 20_000
    cache: int = 1_000
    linger: float = 1.0
    time_to_live: float = 10.0
    beat: float = 1.0
    notifications: bool = True
    grace: float = 20.0


class Runtime:
    """`sole_host`: the database serves this machine only, as the embedded one does."""

    def __init__(
        self,
        database: db.Database,
        registry: Registry,
        *,
        version: str,
        public_url: str | None,
        limits: Limits | None = None,
        sole_host: bool = False,
    ) -> None:
        self.registry = registry
        self.limits = limits = limits or Limits()
        self._database, self._sole_host = database, sole_host
        self._secret = b""
        self._clock = Clock()
        self._threads = ThreadPoolExecutor(limits.step_threads, thread_name_prefix="step")
        self._outbound = Outbound()
        self.hub = Hub(limits.waiting)
        self._lookup = Lookup(database)
        self._journal = Journal(
            database, clock=self._clock, buffer=limits.start_buffer, published=self._published, watched=self._watched
        )
        self._executor = Executor(
            database,
            registry,
            journal=self._journal,
            lookup=self._lookup,
            clock=self._clock,
            context=self._context,
            dead=self._dead,
            others=lambda: self._notifier.announce(WORK),
            concurrency=limits.concurrency,
            cache=limits.cache,
            linger=limits.linger,
        )
        self.commands = Commands(
            database,
            registry,
            journal=self._journal,
            lookup=self._lookup,
            executor=self._executor,
            id=self.executor_id,
            published=self._published,
        )
        self.views = Views(database, lookup=self._lookup, hub=self.hub, unset=self._executor.unset)
        self._pulse = Pulse(
            database,
            clock=self._clock,
            version=version,
            interval=limits.beat,
            hint=lambda: self._notifier.number,
            beaten=self._beaten,
            recovered=self._recovered,
            lost=self._lost,
        )
        self._notifier = Notifier(database, executor=self.executor_id)
        self._listener = Listener(
            database,
            executor=self.executor_id,
            heard=self._heard,
            missed=self.hub.wake_all,
            polled=self._polled,
            listens=limits.notifications,
        )
        self._recovery = Recovery(
            database,
            executor=self._executor,
            pulse=self._pulse,
            beat=limits.beat,
            time_to_live=limits.time_to_live,
        )
        self._deadlines = Deadlines(database, end=self.commands.end)
        tools = Tools(
            clock=self._clock,
            hub=self.hub,
            lookup=self._lookup,
            database=database,
            threads=self._threads,
            transactions=asyncio.Semaphore(TRANSACTIONS),
            linger=limits.linger,
        )
        self._around = Surroundings(
            tools=tools,
            commands=self.commands,
            registry=registry,
            outbound=self._outbound,
            public_url=public_url,
            secret=lambda: self._secret,
            executor=self.executor_id,
        )
        self._started = self._running = False

    @property
    def draining(self) -> bool:
        return self.hub.draining

    def executor_id(self) -> ExecutorId:
        return self._pulse.id

    # ---- life

    async def start(self) -> None:
        """Returns when this process runs workflows. Raises DatabaseUnavailable, and may be called again then."""
        if self._running:
            return
        self._started = True
        async with db.available():
            await self._introduce()
        self._running = True
        for service in (self._notifier, self._listener, self._executor, self._recovery, self._deadlines, self._pulse):
            await service.start()

    async def _introduce(self) -> None:
        """Become known to the others."""
        line = db.Line(self._database, "start")
        try:
            self._secret = await around("runtime.secret", messages.secret(line))
        finally:
            await line.close()
        self._become(self._pulse.id)
        await self._pulse.tick()
        # Whoever comes first need not wait for what all who follow have.
        await asyncio.gather(self._journal.open(), self._lookup.open())
        if self._sole_host:
            await self._recovery.bury_absent()

    async def drain(self) -> None:
        """Take no more work, answer whoever waits, and let running steps end within the grace time."""
        if self.draining:
            return
        self.commands.draining = True
        self.hub.drain()
        await self._executor.drain(self.limits.grace)

    async def stop(self) -> None:
        """Hand over what is left and let go of everything. Safe to call twice."""
        await self.drain()
        if not self._started:
            return
        self._started = self._running = False
        for service in (self._deadlines, self._recovery):
            await service.stop()
        await self._journal.drain(timeout=2.0)
        try:
            await self._executor.release()
            self._notifier.announce(WORK)
        except (DatabaseUnavailable, TimeoutError):
            log.warning("the database is away: the others find out by themselves what is left to do")
        await self._executor.stop()
        await self._journal.stop()
        for last in (self._pulse, self._notifier, self._listener):
            await last.stop()
        await self.commands.close()
        await self._lookup.close()
        await self._outbound.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._database.close()

    async def ready(self) -> None:
        """Raises Draining, or DatabaseUnavailable when the database takes no write."""
        if self.draining:
            raise Draining
        async with db.available(), within(PATIENCE):
            await self._pulse.probe()
        self._journal.hurry()

    # ---- what the parts tell each other

    def _context(self, run: Run) -> Context:
        return DurableContext(run, self._around)

    def _published(
        self, id: WorkflowId, keys: Collection[str], ended: bool, told: Callable[[], Commit | None] | None = None
    ) -> None:
        self.hub.publish(id, keys, ended=ended, told=told)
        self._notifier.announce(id)

    def _heard(self, ids: Sequence[str]) -> None:
        """Others have committed something of these workflows."""
        for id in ids:
            self.hub.publish(id, ended=True)
        self._executor.doubt(ids)
        if WORK in ids:
            self._executor.answer()

    def _polled(self, number: int) -> None:
        """Others may have committed anything, and left work that is due."""
        self.hub.wake_some()
        if number % WORK_POLLS == 0:
            self._executor.answer()

    def _watched(self, ended: Sequence[WorkflowId], published: Mapping[str, Collection[str]]) -> None:
        tasks.spawn(tasks.insist(lambda: self._executor.wake_watchers(ended, published)), name="wake watchers")

    async def _beaten(self, beat: Beat) -> None:
        self.hub.wake_slice()
        self._notifier.wanted = self.limits.notifications and any(peer.alive and peer.direct for peer in beat.peers)
        self._listener.compare(beat.peers)
        if beat.due_in is not None:
            self._executor.alarm(beat.due_in)
        if beat.overdue_in is not None:
            self._deadlines.expect(beat.overdue_in)
        await self._recovery.examine(beat, self._journal.in_flight)

    def _recovered(self) -> None:
        self._journal.hurry()
        self.hub.wake_all()
        tasks.spawn(tasks.insist(self._executor.sweep_waits), name="sweep waits")

    async def _lost(self) -> None:
        self._executor.drop_all()
        self._become(self._pulse.id)
        self._pulse.poke()

    def _become(self, id: ExecutorId) -> None:
        self._executor.id = id
        self._journal.reopen(id)

    async def _dead(self, owned: Owned) -> None:
        """A workflow was recovered too often."""
        reason = MilepostError(
            f"Its process was lost {owned.barren} times in a row while this workflow ran, without a new record."
        )
        await self.commands.end([(owned.id, owned.generation)], Status.DEAD, failures.describe(reason))
