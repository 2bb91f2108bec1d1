"""One workflow in memory.

Its code runs on a loop of its own (`loop.py`) that `_pump` turns until every task is blocked. Then exactly
one result is given to the code: the next recorded one in replay, after that the next one that has come in.
With it goes, live, the record, in the same turn as whatever the code publishes in consequence: so a step
and the events set after it share a commit. Only when there is nothing more to give are new calls begun,
each after its *barrier*: everything the workflow recorded before the call is committed.

    code ──call──► pending ──barrier──► effect (a step runs, a timer, a wait …) ──outcome──► record + result ──► code

A workflow whose pending calls are all waits is parked after it has lingered for a moment: its waits go to
the database, its code stays in a bounded cache to be resumed in place, or is unwound.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum, auto
from functools import cached_property
from typing import Any, Protocol

from app import telemetry
from app.authoring import Definition
from app.engine import failures, loop, tasks
from app.engine.calls import Call, Effect, Mail, Outcome, Waiting
from app.engine.clock import Clock
from app.engine.entries import Birth, Entry, Lane
from app.engine.journal import Journal
from app.engine.replay import History
from app.engine.scribe import Backlog, Scribe
from app.errors import (
    Aborted,
    AuthoringError,
    DatabaseUnavailable,
    MilepostError,
    NonDeterministicWorkflow,
    Suspended,
    Unwound,
)
from app.model import JsonText, Status, StepKind, WorkflowId
from app.store import db
from app.store.steps import Recorded
from app.store.workflows import Owned

log = telemetry.logger(__name__)

SLICE = 50
"""Callbacks or results after which the service's loop has its turn."""
MAX_RAISED = 1_000
"""Durable calls that a workflow's code may try after it was told to leave."""
UNWIND_TURNS = 10_000
"""Callbacks that a workflow's code gets to leave when it is taken out of memory."""


class Phase(Enum):
    LIVE = auto()
    PARKING = auto()
    PARKED = auto()
    ENDING = auto()
    CLOSED = auto()


class Owner(Protocol):
    """What a run tells its executor."""

    draining: bool
    backlog: Backlog

    def ended(self, run: Run) -> None:
        """It has ended, or is not ours any more: forget it."""

    def cleared(self, run: Run) -> None:
        """Something of it was committed: it is not what ends its processes, if it was suspected of that."""

    def parked(self, run: Run) -> None:
        """It waits without a slot, and may be dropped from memory."""

    def look_again(self, run: Run) -> Coroutine[Any, Any, None]:
        """See whether what a parked run waits for happened while it was being parked, and wake it then."""

    def watch(self, run: Run, targets: Sequence[WorkflowId]) -> Awaitable[None]:
        """Have the next commits of other workflows tell that they are waited for."""

    def due(self, when: datetime) -> None:
        """A parked run is to be woken at this time."""


class Run:
    """Raises nothing to its owner: whatever goes wrong ends up as the workflow's status."""

    def __init__(
        self,
        owned: Owned,
        definition: Definition,
        history: History,
        *,
        owner: Owner,
        journal: Journal,
        clock: Clock,
        linger: float,
    ) -> None:
        self.id, self.generation, self.token = owned.id, owned.generation, owned.start_token
        self.definition = definition
        self.lane = Lane.FAST
        self.history = history
        self._outer = asyncio.get_running_loop()
        self.loop = loop.make(self._schedule, self._outer.time)
        self.mail: dict[str, Mail] = {}
        """What has been found of its messages, by topic."""
        self._committing: asyncio.Lock | None = None
        """Held by a transaction from the numbering of its record to its commit. Most workflows have none."""
        self._owner, self._clock, self._linger = owner, clock, linger
        self._phase = Phase.LIVE
        self._root: asyncio.Task[Any] | None = None
        self._calls: dict[int, Call] = {}
        self._new: list[Call] = []
        self._inboxes: dict[str, int] = {}
        self._gated: deque[Call] = deque()
        self._outcomes: deque[tuple[Call, Outcome]] = deque()
        self._now = owned.started_at
        self._seq = self._sets = 0
        self._reached = max(history.waits, default=0)
        self._scribe = Scribe(
            self,
            done=history.done,
            position=history.position,
            waits=history.waits,
            fertile=owned.barren > 0,
            backlog=owner.backlog,
            opened=journal.enlist,
            loop=self._outer,
        )
        self._scheduled = self._news = False
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._reason: Unwound | None = None
        self._raised = 0
        self._stays: asyncio.Future[None] | None = None

    # ---- what the executor does with it

    def begin(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start, or start again, the workflow's code."""
        self._root = self.loop.run_main(function())

    @cached_property
    def random(self) -> random.Random:
        """Random numbers that are the same in replay. Most workflows ask for none."""
        return random.Random(f"{self.id} {self.token}")  # noqa: S311 - they need not be secret

    @cached_property
    def _queue(self) -> asyncio.Lock:
        """Of those who wait to be lightened."""
        return asyncio.Lock()

    @property
    def live(self) -> bool:
        """It runs, and is neither being parked nor ended."""
        return self._phase is Phase.LIVE

    @property
    def replaying(self) -> bool:
        # The code had come as far as the last wait that is written down, whether or not it had recorded anything since.
        return not self.history.exhausted or self._seq < self._reached

    @property
    def has_news(self) -> bool:
        """Whether something came for it while it was being parked."""
        return self._news

    @property
    def targets(self) -> list[tuple[WorkflowId, str | None]]:
        """What it waits for of other workflows: (id, event key or None for the end)."""
        return [(w.target, w.key) for w in self._waits().values() if w.target is not None]

    @property
    def busy(self) -> bool:
        """Whether a step of it is being carried out, or something of it is not committed yet."""
        if self._phase in (Phase.PARKED, Phase.CLOSED):
            return False
        under_way = any(call.begun and call.effect.waiting is None for call in self._calls.values())
        return under_way or not self._scribe.all_committed

    def unset(self, key: str) -> bool:
        """Whether it has never set this key, as far as that is committed. False may also mean that it isn't known."""
        return self._scribe.unset(key)

    def resume(self, generation: int) -> None:
        """Go on in place, in the next generation, after a park."""
        self.generation = generation
        self._stay()
        for call in self._calls.values():
            call.effect.begin(self, call)
        self._schedule()

    def abort(self) -> None:
        """It was cancelled, timed out, or goes on elsewhere: its code leaves at the next durable call."""
        self._close(Aborted("The workflow was ended from outside, or goes on elsewhere."))

    def suspend(self) -> None:
        """Leave memory; the records bring it back."""
        self._close(Suspended("The workflow waits, and will go on from its records."))

    # ---- what the context does with it

    def now(self) -> datetime:
        """When the last result was recorded: the same in replay."""
        return self._now

    async def call(self, kind: StepKind, name: str, digest: int, effect: Effect) -> Outcome:
        """A durable call: its recorded outcome in replay, else what its effect brings."""
        if self._reason is not None:
            await self._raise_again(self._reason)
        self.check_caller()
        self._seq += 1
        try:
            self.history.match(self._seq, kind, name, digest)
        except NonDeterministicWorkflow as error:
            self.fail(error)
            raise
        call = Call(self._seq, kind, name, digest, self.loop.create_future(), effect)
        self._calls[call.seq] = call
        self._new.append(call)
        try:
            return await call.future
        finally:
            self._withdraw(call)

    def check_caller(self) -> None:
        """Durable calls are the workflow's own; on a closed run they raise what closed it."""
        if not self.loop.runs_here:
            raise AuthoringError(
                "Durable calls can be made by the workflow's own tasks only: not in a step, not in a thread, not in"
                " a task that something else started."
            )

    def check_open(self) -> None:
        """On a run that was taken out of memory every durable call raises what took it out."""
        if self._reason is not None:
            raise type(self._reason)(*self._reason.args)

    async def _raise_again(self, reason: Unwound) -> None:
        if self._insists():
            # Code that catches this, and calls again, for ever, is left standing here. It comes by once more, and
            # on no loop at all, when what is left of it is collected.
            await self.loop.create_future()
        raise type(reason)(*reason.args)

    def _insists(self) -> bool:
        self._raised += 1
        return self._raised > MAX_RAISED

    def publish(self, key: str, value: JsonText) -> bool:
        """Set an event from the workflow's own code; whether the code should give way for a moment."""
        if self._reason is not None and self._insists():
            return True
        self.check_open()
        self.check_caller()
        self._sets += 1
        if not self.history.published(key):
            self._scribe.event(key, value, None)
        return self._sets % SLICE == 0 or self._scribe.heavy

    def publish_in_step(self, key: str, value: JsonText, seq: int) -> asyncio.Future[None]:
        """Set an event from inside a step. The future is done when it is committed."""
        self.check_open()
        self._scribe.event(key, value, seq)
        return self._scribe.until_committed()

    def expect_callback(self, call: Call, token_hash: str, expires: float) -> None:
        self._scribe.callback(call, token_hash, expires)

    async def lightened(self) -> None:
        """Returns when no more of it waits for its commit than may; to many callers in their order."""
        if not self._scribe.heavy and not self._queue.locked():
            return
        async with self._queue:
            while self._scribe.heavy:
                await self._scribe.until_committed()

    def bear(self, id: WorkflowId, row: str) -> Birth:
        """Start a child in this workflow's next entry, so behind its fence."""
        self.check_open()
        return self._scribe.birth(id, row)

    def count_inbox(self, topic: str, inbox: int) -> None:
        """So many messages had come in when a topic was last read: a park holds only if none came since."""
        self._inboxes[topic] = inbox

    @property
    def upcoming(self) -> int:
        """The number that the next durable call will have."""
        return self._seq + 1

    def fail(self, error: Exception) -> None:
        """The workflow can't go on, whatever its code makes of it."""
        self._failure = self._failure or error

    # ---- effects report

    def settle(self, call: Call, outcome: Outcome) -> None:
        """An effect has come out. Nothing happens to a call that the code has given up meanwhile."""
        if outcome.committed_at is None:
            self._outcomes.append((call, outcome))
        else:
            # Its number was given before its commit: it comes before whatever came in meanwhile.
            self._outcomes.appendleft((call, outcome))
        self._schedule()

    def stir(self) -> None:
        """An effect has become a wait: perhaps the run can be parked."""
        self._schedule()

    async def presence(self) -> None:
        """Returns when the run is not being parked. What a step does meanwhile could not be recorded, and would be
        done again; whoever waits here when the park is done is cancelled, and begun again after it."""
        while self._phase is Phase.PARKING:
            if self._stays is None:
                self._stays = self._outer.create_future()
            await asyncio.shield(self._stays)

    # ---- what the journal does with it

    def take(self) -> Entry | None:
        return self._scribe.take()

    def committed(self, entry: Entry, *, moved: bool) -> None:
        self._scribe.commit(entry.serial)
        if entry.fertile:
            self._owner.cleared(self)
        if self._scribe.all_committed:
            self.lane = Lane.FAST
        if self._phase is Phase.CLOSED:
            return
        if entry.fin is None:
            self._schedule()
        elif entry.fin != Status.WAITING:
            self._close(Suspended())
        elif not moved:
            # A message came in between: what was waiting reads again.
            self._stay()
            self._restart_waits()
            self._schedule()
        else:
            self._park_done()

    def fenced(self) -> None:
        self.abort()

    def refused(self, reason: MilepostError) -> None:
        self._scribe.drop(reason)
        if self._phase is Phase.CLOSED:
            return
        if self._phase is Phase.ENDING and self._failure is not None:
            log.error("a workflow's failure can't be recorded", workflow_id=self.id, reason=reason.detail)
            self.abort()
            return
        self._stay()
        self.fail(reason)
        self._schedule()

    # ---- the pump

    def _schedule(self) -> None:
        if not self._scheduled and self._phase is Phase.LIVE:
            self._scheduled = True
            self._outer.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        if self._stands_still():
            return
        self.loop.attended = True
        try:
            self._carry_on()
        finally:
            self.loop.attended = False

    def _carry_on(self) -> None:
        """Give the code all that there is for it, and begin what it calls."""
        given = 0
        while self._phase is Phase.LIVE and not self._scribe.heavy:
            if self._failure is None:
                # Once it has failed nothing that its code does counts any more.
                self.loop.turn(SLICE, self._scribe)
            if self._failure is not None or (self._root is not None and self._root.done()):
                self._finish()
            elif not self.loop.idle or given >= SLICE:
                self._schedule()
                return
            elif self._give():
                given += 1
            else:
                self._begin_calls()
                self._consider_parking()
                return

    def _give(self) -> bool:
        """Give the code its next result; False: there is none."""
        if (record := self.history.take()) is not None:
            call = self._calls.get(record.seq)
            if call is None or call.future.done():
                self._miss(record)
                return True
            self._now = max(self._now, record.completed_at)
            call.future.set_result(
                Outcome(record.started_at, record.output, record.error, record.attempts, record.child_id)
            )
            return True
        while self._outcomes:
            if self._stands_still():
                return False
            call, outcome = self._outcomes.popleft()
            given_up = call.future.done()
            if outcome.received is not None:
                self.mail[call.name].dealt(outcome.received, kept=not given_up)
            if not given_up:
                self._now = max(self._now, outcome.committed_at or self._clock.now())
                if outcome.committed_at is None:
                    self._scribe.step(call, outcome, self._now)
                call.future.set_result(outcome)
                return True
        return False

    def _miss(self, record: Recorded) -> None:
        self.fail(
            NonDeterministicWorkflow(
                f"Call {record.seq}, {record.kind} {record.name!r}, was recorded, and is not made any more."
                " Register changed code as a new version, beside the old one."
            )
        )

    def _stands_still(self) -> bool:
        """Whether a transaction's outcome must be the next that is given."""
        return self._committing is not None and self._committing.locked() and not self._committed_first()

    def _committed_first(self) -> bool:
        return bool(self._outcomes) and self._outcomes[0][1].committed_at is not None

    def _begin_calls(self) -> None:
        """Begin what was called, now that nothing recorded is left to be given back."""
        if self._owner.draining:
            return
        if self._new:
            new, self._new = self._new, []
            for call in new:
                if call.future.done():
                    continue
                if self._scribe.all_committed or not call.effect.barrier:
                    self._begin(call)
                else:
                    call.gate = self._scribe.serial
                    self._gated.append(call)
        while self._gated and self._gated[0].gate <= self._scribe.committed:
            call = self._gated.popleft()
            if not call.future.done():
                self._begin(call)

    def _begin(self, call: Call) -> None:
        call.begun = True
        call.effect.begin(self, call)

    def _withdraw(self, call: Call) -> None:
        """The code has its result, or has given the call up."""
        self._calls.pop(call.seq, None)
        if call.begun and call.future.cancelled():
            call.effect.cancel()
            if self._phase is Phase.LIVE:
                self._scribe.forget_wait(call.seq)

    # ---- transactions

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """The code stands still meanwhile, with all it was given digested."""
        lock = self._committing = self._committing or asyncio.Lock()
        while True:
            async with lock:
                if self.loop.idle and not self._scribe.heavy and not self._committed_first():
                    yield
                    return
            # Too much uncommitted: the code stands still until a flush, which takes a while.
            await asyncio.sleep(0.01 if self._scribe.heavy else 0)

    def number(
        self, call: Call, output: JsonText, attempts: int, started_at: datetime, completed_at: datetime
    ) -> Recorded:
        """The record of a call, to be written by a transaction of its own."""
        return self._scribe.transaction(call, output, attempts, started_at, completed_at)

    # ---- the end

    def _finish(self) -> None:
        """The code has returned or raised, or can't go on."""
        self._phase = Phase.ENDING
        self._stop_timer()
        for call in self._calls.values():
            if call.begun:
                call.effect.cancel()
        self._scribe.end(*self._ending())

    def _ending(self) -> tuple[Status, JsonText | None, JsonText | None]:
        root = self._root
        returned = root is not None and root.done() and not root.cancelled() and root.exception() is None
        # When it returned the first time, nothing that it had called came out any more.
        if returned and (left := self.history.take()) is not None:
            self._miss(left)
        error: BaseException | None = self._failure
        if root is None or error is not None:
            self._leave(Aborted("The workflow has failed."))
        elif root.cancelled():
            error = asyncio.CancelledError("The workflow's code cancelled itself.")
        elif (error := root.exception()) is None:
            try:
                return Status.SUCCEEDED, self.definition.output.encode(root.result()), None
            except Exception as refused:
                error = AuthoringError(f"What the workflow returned can't be its output: {refused}")
        log.info("workflow failed", workflow_id=self.id, name=self.definition.name, type=type(error).__name__)
        return Status.FAILED, None, failures.describe(error or self._failure or MilepostError())

    # ---- waiting

    def _consider_parking(self) -> None:
        """Nothing is left to give. If nothing of it runs either, it waits, and may do so without memory."""
        if not self._calls and self._scribe.all_committed:
            self.fail(
                AuthoringError(
                    "The workflow waits for something that is not a durable call, so nothing can ever wake it."
                )
            )
            self._schedule()
        elif self._timer is None and self._lingers():
            self._timer = self._outer.call_later(self._linger, self._lingered)

    def _lingers(self) -> bool:
        """Whether there will be something to do when it has waited for a moment: to park, or to write waits down."""
        waiting = [call.seq for call in self._calls.values() if call.begun and call.effect.waiting is not None]
        if not waiting or len(waiting) == len(self._calls):
            return bool(waiting)
        return not all(map(self._scribe.knows_wait, waiting))

    def _parkable(self) -> bool:
        return all(call.begun and call.effect.waiting is not None for call in self._calls.values())

    def _lingered(self) -> None:
        """A moment has passed. Write down how long the waits last, and leave if there is nothing else to do."""
        self._timer = None
        if self._phase is not Phase.LIVE:
            return
        if self._scheduled or self._outcomes or not self._parkable() or not self._scribe.all_committed:
            self._write_waits()
            self._schedule()
            return
        self._phase = Phase.PARKING
        targets = sorted({w.target for w in self._waits().values() if w.target is not None})
        if targets:
            tasks.spawn(self._watch_then_park(targets), name=f"park {self.id}")
        else:
            self._park()

    async def _watch_then_park(self, targets: Sequence[WorkflowId]) -> None:
        try:
            await self._owner.watch(self, targets)
            marked = True
        except DatabaseUnavailable:
            marked = False
        except db.FAILURES as error:
            log.warning("a workflow could not be parked", workflow_id=self.id, error=db.reason(error))
            marked = False
        if self._phase is not Phase.PARKING:
            return
        if marked and not self._outcomes and self._parkable():
            self._park()
        else:
            self._stay()
            self._schedule()

    def _stay(self) -> None:
        """Be live, again."""
        self._phase = Phase.LIVE
        if self._stays is not None:
            self._stays.set_result(None)
            self._stays = None

    def _waits(self) -> dict[int, Waiting]:
        return {seq: call.effect.waiting for seq, call in self._calls.items() if call.begun and call.effect.waiting}

    def _park(self) -> None:
        self._write_waits()
        topics = [call.name for call in self._calls.values() if call.kind is StepKind.RECEIVE]
        self._scribe.park(min((self._inboxes.get(topic, -1) for topic in topics), default=None), self._next_deadline())

    def _next_deadline(self) -> datetime | None:
        return min((w.deadline for w in self._waits().values() if w.deadline is not None), default=None)

    def _park_done(self) -> None:
        self._phase = Phase.PARKED
        self._news = bool(self._outcomes)
        if self._news or self.targets:
            tasks.spawn(self._owner.look_again(self), name=f"look again {self.id}")
        for call in self._calls.values():
            call.effect.cancel()
        for call, outcome in self._outcomes:
            if outcome.received is not None:
                self.mail[call.name].dealt(outcome.received, kept=False)
        self._outcomes.clear()
        if (deadline := self._next_deadline()) is not None:
            self._owner.due(deadline)
        self._owner.parked(self)

    def _restart_waits(self) -> None:
        settled = {id(call) for call, _ in self._outcomes}
        for call in self._calls.values():
            if call.begun and id(call) not in settled:
                call.effect.cancel()
                call.effect.begin(self, call)

    def _write_waits(self) -> None:
        """From now on the deadlines outlive this process."""
        for seq, waiting in self._waits().items():
            # A pause between tries is another one each time, the other waits stay what they are.
            if waiting.kind == "retry" or not self._scribe.knows_wait(seq):
                self._scribe.wait(seq, waiting)

    # ---- leaving memory

    def _close(self, reason: Unwound) -> None:
        if self._phase is Phase.CLOSED:
            return
        self._phase, self._reason = Phase.CLOSED, reason
        self._stop_timer()
        for call in self._calls.values():
            if call.begun and isinstance(reason, Aborted):
                call.effect.abandon()
            elif call.begun:
                call.effect.cancel()
        self._scribe.drop(reason)
        self._owner.ended(self)
        if self._root is not None and self._root.done() and not self._calls and not self.loop.tasks:
            self._let_go()
        else:
            # Not from here: whoever closes a run may stand inside a task.
            self._outer.call_soon(self._leave, reason)

    def _leave(self, reason: Unwound) -> None:
        """Take the code off the stack: every durable call raises from now on, and records nothing."""
        self._reason = reason
        root = self._root
        for call in list(self._calls.values()):
            if not call.future.done():
                call.future.set_exception(type(reason)(*reason.args))
        self.loop.turn(UNWIND_TURNS)
        for task in [*self.loop.tasks] if root is None else [root, *self.loop.tasks]:
            task.cancel()
        self.loop.turn(UNWIND_TURNS)
        if root is not None and not root.done():
            log.warning("a workflow's code would not leave", workflow_id=self.id, name=self.definition.name)
        if self._phase is Phase.CLOSED:
            self._let_go()

    def _let_go(self) -> None:
        """Cut the circles, so that all of it is freed at once and not by a search for what refers to itself."""
        if self._root is not None and self._root.done() and not self._root.cancelled():
            self._root.exception()  # whatever became of the code, the workflow's record says it
        self._root = None
        self._calls.clear()
        self.mail.clear()
        self.loop.detach()
        self._scribe.detach()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128), version=4)
