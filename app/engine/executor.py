"""The executor: runs workflows, a bounded number at a time, and owns what is in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from app import telemetry
from app.authoring import Context, Definition, Registry
from app.engine import tasks
from app.engine.clock import Clock
from app.engine.journal import Journal
from app.engine.lookup import Lookup
from app.engine.points import around, point
from app.engine.replay import History
from app.engine.run import Run
from app.engine.scribe import Backlog
from app.engine.service import Service
from app.errors import DatabaseUnavailable, WorkflowNotFound, WorkflowNotRegistered
from app.model import ExecutorId, WorkflowId
from app.store import db, steps, workflows
from app.store.workflows import Owned

log = telemetry.logger(__name__)

CLAIM = 200
"""Workflows taken in one statement, at most."""
READ = 20
"""Workflows whose records are read in one statement, at most."""
TICK = 0.002
"""Timers are kept in milliseconds and may ring that much early; what is not due yet isn't claimed."""


class Executor(Service):
    """Its tick claims what is due, as long as there is room. Poked when something became due."""

    name = "executor"

    def __init__(
        self,
        database: db.Database,
        registry: Registry,
        *,
        journal: Journal,
        lookup: Lookup,
        clock: Clock,
        context: Callable[[Run], Context],
        dead: Callable[[Owned], Coroutine[Any, Any, None]],
        others: Callable[[], None],
        concurrency: int,
        cache: int,
        linger: float,
    ) -> None:
        """`dead` ends a workflow that was recovered too often, `others` calls for the other executors when there is
        work that this one leaves. `concurrency` may be 0, for one that runs nothing. `cache`: parked workflows kept in
        memory."""
        super().__init__(interval=60.0)
        self._line = db.Line(database, "executor")
        self._claims = db.Line(database, "claims", settings=db.PLANNED_IN_ORDER)
        # Waking waits for rows that somebody may hold; claiming must not stand behind it.
        self._wakes = db.Line(database, "wake")
        self._registry, self._journal, self._lookup, self._clock = registry, journal, lookup, clock
        self._context, self._dead, self._others = context, dead, others
        self._concurrency, self._cache, self._linger = concurrency, cache, linger
        self._runs: dict[WorkflowId, Run] = {}
        self._parked: OrderedDict[WorkflowId, Run] = OrderedDict()
        self._coming: set[tuple[str, int]] = set()
        """(id, generation) of what is ours, and is still being read."""
        self._suspect: Run | None = None
        self._reserved = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = float("-inf")
        self._rang = False
        self._backlog = False
        self._summoned = 0
        """Workflows that were made due by this process, as far as it has not claimed for them yet."""
        self.draining = False
        self.backlog = Backlog()
        self.id = ExecutorId("")

    # ---- room

    @property
    def room(self) -> int:
        return 0 if self.draining else self._concurrency - len(self._runs) - self._reserved

    def reserve(self) -> bool:
        """Keep room for a workflow that is being started; False: there is none."""
        if self.room <= 0:
            return False
        self._reserved += 1
        return True

    def unreserve(self) -> None:
        self._reserved -= 1

    @property
    def definitions(self) -> Sequence[tuple[str, str]]:
        """What this process can run: (name, version) pairs."""
        return [(definition.name, definition.version) for definition in self._registry]

    def holds(self, id: str, generation: int) -> bool:
        run = self._runs.get(WorkflowId(id)) or self._parked.get(WorkflowId(id))
        return (run is not None and run.generation == generation) or (id, generation) in self._coming

    def unset(self, id: WorkflowId, key: str) -> bool:
        """Whether a workflow runs here, and has never set this key as far as that is committed."""
        run = self._runs.get(id)
        return run is not None and run.unset(key)

    # ---- running

    def launch(
        self,
        owned: Owned,
        definition: Definition,
        records: steps.Records | None = None,
        *,
        arguments: tuple[Any, ...] | None = None,
    ) -> None:
        """Run a workflow that has become this process's own. `arguments`: what its input was read to, if it just was;
        nobody else may have them."""
        if (other := self._runs.get(owned.id)) is not None:
            if other.generation > owned.generation:
                return  # adopted while the answer of an earlier claim was on its way
            # Claimed again before this process heard that its own park was committed.
            other.abort()
        if (stale := self._parked.pop(owned.id, None)) is not None:
            stale.suspend()
        run = Run(
            owned,
            definition,
            History(records),
            owner=self,
            journal=self._journal,
            clock=self._clock,
            linger=self._linger,
        )
        self._runs[owned.id] = run
        if owned.suspected:
            self._suspect = run
        context = self._context(run)
        # What the code refers to is kept for as long as it runs, and this may be large.
        text = owned.input if arguments is None else None

        async def main() -> Any:
            given = definition.arguments(text) if arguments is None else arguments
            return await definition.function(context, *given)

        run.begin(main)

    async def take(self, taken: Sequence[Owned]) -> None:
        """Go on with workflows that have just become this process's own: in place, or from their records."""
        cold: list[Owned] = []
        for owned in taken:
            run = self._parked.pop(owned.id, None)
            if run is not None and (run.token, run.generation) == (owned.start_token, owned.generation - 1):
                self._runs[owned.id] = run
                run.resume(owned.generation)
            else:
                if run is not None:
                    run.suspend()
                cold.append(owned)
        coming = {(owned.id, owned.generation) for owned in cold}
        self._coming |= coming
        self._reserved += len(cold)
        try:
            await self._recover(cold)
        finally:
            self._reserved -= len(cold)
            self._coming -= coming

    async def _recover(self, cold: Sequence[Owned]) -> None:
        for start in range(0, len(cold), READ):
            await self._launch_all(cold[start : start + READ])

    async def _launch_all(self, cold: Sequence[Owned]) -> None:
        try:
            # A statement of its own: the one that took them may have seen less than their last commit.
            records = await around("executor.read", steps.records(self._line, [owned.id for owned in cold]))
        except db.FAILURES as error:
            if db.verdict(error) is not db.Verdict.BUSY or len(cold) == 1:
                raise
            # Long histories: fewer of them at once.
            await self._launch_all(cold[: len(cold) // 2])
            await self._launch_all(cold[len(cold) // 2 :])
            return
        for owned in cold:
            definition = self._registry.get(owned.name, owned.version)
            if definition is None:
                # Only what is registered is taken, so this is a registry that lost something meanwhile.
                raise WorkflowNotRegistered(f"{owned.name} {owned.version} is not registered any more.")
            if owned.barren > definition.max_recoveries:
                tasks.spawn(self._dead(owned), name=f"dead {owned.id}")
            else:
                self.launch(owned, definition, records[owned.id])

    def drop(self, id: WorkflowId) -> None:
        """A workflow was ended from outside: take its code out of memory."""
        run = self._runs.get(id) or self._parked.pop(id, None)
        if run is not None:
            run.abort()

    def drop_all(self) -> None:
        """This process lost everything it ran: others have it."""
        for run in [*self._runs.values(), *self._parked.values()]:
            run.abort()
        self._parked.clear()

    def doubt(self, ids: Sequence[str]) -> None:
        """Others did something to these: what runs here may have been ended."""
        runs = [run for id in ids if (run := self._runs.get(WorkflowId(id))) is not None]
        if runs:
            tasks.spawn(self._verify(runs), name="verify")

    async def _verify(self, runs: Sequence[Run]) -> None:
        try:
            asked = [(run, run.generation) for run in runs]
            mine = await self._lookup.owned([(run.id, generation) for run, generation in asked], self.id)
        except DatabaseUnavailable:
            return  # whoever is not ours any more is told so by the journal, at the latest
        for run, generation in asked:
            if run.id not in mine and run.live and run.generation == generation:
                run.abort()

    # ---- what runs say

    def ended(self, run: Run) -> None:
        self.cleared(run)
        if self._runs.get(run.id) is run:
            del self._runs[run.id]
            if self._backlog:
                self.poke()
        if self._parked.get(run.id) is run:
            del self._parked[run.id]

    def cleared(self, run: Run) -> None:
        if self._suspect is run:
            self._suspect = None
            self.poke()

    def parked(self, run: Run) -> None:
        self.cleared(run)
        del self._runs[run.id]
        self._parked[run.id] = run
        if len(self._parked) > self._cache:
            _, oldest = self._parked.popitem(last=False)
            oldest.suspend()
        if self._backlog:
            self.poke()

    async def watch(self, run: Run, targets: Sequence[WorkflowId]) -> None:
        await asyncio.gather(*(self._lookup.watch(target) for target in targets))

    async def look_again(self, run: Run) -> None:
        """What a run waits for may have come between its last look and its park, and nobody woke it then."""

        # Asked before it may leave memory.
        targets, news = run.targets, run.has_news

        async def look() -> None:
            if news or await self._has_come(targets):
                await self.wake([run.id])

        await tasks.insist(look)

    async def _has_come(self, targets: Sequence[tuple[WorkflowId, str | None]]) -> bool:
        for target, key in targets:
            try:
                glance = await self._lookup.glance(target, key or "")
            except WorkflowNotFound:
                return True
            if glance.status.terminal or (key is not None and glance.event is not None):
                return True
        return False

    def due(self, when: datetime) -> None:
        self.alarm(self._clock.until(when))

    # ---- waking and claiming

    def summon(self, count: int = 1) -> None:
        """So many workflows were made due. Those that this process does not take are left to the others."""
        self._summoned += count
        self.poke()

    def answer(self) -> None:
        """Others have called: something is due that they leave, or will be soon."""
        if self._concurrency:
            self._ring()

    def expect(self, seconds: float) -> None:
        """A workflow was made that will be due in so many seconds."""
        if self._concurrency:
            self.alarm(seconds)
        else:
            self._others()

    def alarm(self, seconds: float) -> None:
        """Look for what is due in so many seconds, or earlier."""
        if not self._concurrency:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(0.0, seconds) + TICK
        if loop.time() < self._rings_at <= at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._rings_at, self._alarm = at, loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._rang = True
        self.poke()

    async def wake(self, ids: Sequence[str]) -> None:
        """Queue parked workflows; what this process can run of them it claims at once."""
        async with db.available():
            if queued := await around("executor.queue", workflows.wake(self._wakes, ids)):
                self.summon(len(queued))

    async def wake_watchers(self, ended: Sequence[str], published: Mapping[str, Collection[str]]) -> None:
        """These workflows have ended, those have set events: whoever is parked until then goes on."""
        await point("executor.before_wake")
        async with db.available():
            waiting = await around("executor.watchers", workflows.watchers(self._wakes, ended, published))
        if waiting:
            await self.wake(waiting)

    async def sweep_waits(self) -> None:
        """Wake whoever waits for what has happened already, but was left by an executor that died."""
        async with db.available():
            waiting = await around("executor.sweep", workflows.overdue_waits(self._wakes))
        if waiting:
            await self.wake(waiting)

    async def tick(self) -> None:
        rang, self._rang = self._rang, False
        since, summoned = self._clock.now(), self._summoned
        taken = await self._claim_due()
        # What was made due meanwhile may be among them.
        self._summoned = max(0, self._summoned - max(summoned, taken))
        if summoned and (self._backlog or taken < summoned):
            self._others()
        # One alarm stands for all: the next one is known to the database alone.
        if rang:
            seconds = await around("executor.next_due", workflows.next_due(self._line, since))
            if seconds is not None:
                self.alarm(seconds)

    async def _claim_due(self) -> int:
        """Take what is due, as far as there is room; returns how much that was."""
        claimed = 0
        while (room := min(self.room, CLAIM)) > 0 and not self._stopping:
            claim = workflows.claim(self._claims, self.id, self.definitions, room, suspect=self._suspect is None)
            taken = await around("executor.claim", claim)
            await self.take(taken)
            claimed += len(taken)
            if len(taken) < room:
                self._backlog = False
                return claimed
        self._backlog = True
        return claimed

    # ---- the end

    async def drain(self, grace: float) -> None:
        """Begin nothing more; let running steps end and be recorded, for so many seconds at most."""
        self.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while loop.time() < deadline and any(run.busy for run in self._runs.values()):  # noqa: ASYNC110 - many of them
            await asyncio.sleep(0.02)

    async def release(self) -> None:
        """Hand over what is left, and take the code of everything out of memory."""
        try:
            async with db.available(), asyncio.timeout(2):
                await around("executor.release", workflows.release(self._line, self.id))
        finally:
            for run in [*self._runs.values(), *self._parked.values()]:
                run.suspend()

    async def stop(self) -> None:
        await super().stop()
        if self._alarm is not None:
            self._alarm.cancel()
        await self._claims.close()
        await self._line.close()
        await self._wakes.close()
