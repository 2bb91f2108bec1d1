"""What durable calls do when it is their turn: one class each."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor as Threads
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from app import telemetry, values
from app.authoring.steps import StepSpec
from app.engine import failures, tasks
from app.engine.calls import Call, Outcome, Waiting
from app.engine.clock import Clock
from app.engine.hub import END, Hub
from app.engine.lookup import Lookup
from app.engine.mailbox import Found, Mailbox
from app.engine.points import around, point
from app.engine.run import Run
from app.errors import (
    Aborted,
    ChildFailed,
    DatabaseUnavailable,
    EventNeverSet,
    MilepostError,
    TimedOut,
    Unwound,
    WorkflowNotFound,
)
from app.model import NULL, ExecutorId, JsonText, Status, WorkflowId
from app.store import db, steps

log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What effects work with."""

    clock: Clock
    hub: Hub
    lookup: Lookup
    database: db.Database
    threads: Threads
    transactions: asyncio.Semaphore
    linger: float


class _Task:
    """An effect that is a task on the service's loop. It holds its task while the call is waited for."""

    barrier = True

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._waiting: Waiting | None = None

    @property
    def waiting(self) -> Waiting | None:
        return self._waiting

    def begin(self, run: Run, call: Call) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guarded(run, call))

    def cancel(self) -> None:
        if self._task is not None:
            tasks.keep(self._task)
            self._task.cancel()
            self._task = None

    def abandon(self) -> None:
        self.cancel()

    async def work(self, run: Run, call: Call) -> Outcome | None:
        """The outcome; None: it comes later, by another way."""
        raise NotImplementedError

    async def _guarded(self, run: Run, call: Call) -> None:
        try:
            outcome = await self.work(run, call)
        except Unwound:
            # The run was closed while a step of it published something: nobody waits for this any more.
            return
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this: the step's own code raised it.
            outcome = Outcome(run.now(), error=failures.describe(error, step=call.name), cause=error)
        except Exception as error:
            log.exception("a durable call broke", workflow_id=run.id, seq=call.seq, kind=call.kind)
            run.fail(MilepostError(f"Call {call.seq}, {call.kind} {call.name!r}, broke in Milepost: {error!r}"))
            run.stir()
            return
        if outcome is not None:
            run.settle(call, outcome)


Success = JsonText | None


class Step(_Task):
    """A function, tried as often as its spec says. A long pause between tries needs no memory."""

    def __init__(self, tools: Tools, spec: StepSpec, attempt: Callable[..., Awaitable[Any]]) -> None:
        super().__init__()
        self._tools, self._spec, self._attempt = tools, spec, attempt
        self._resumes: Waiting | None = None
        self._tries = 0

    async def work(self, run: Run, call: Call) -> Outcome | None:
        earlier = self._resumes or _written(run, call)
        attempt, until = (earlier.attempts, earlier.deadline) if earlier is not None else (0, None)
        if until is not None:
            await self._pause(run, earlier, self._tools.clock.until(until))
        started_at = self._tools.clock.now()
        while True:
            self._tries = attempt = attempt + 1
            run.check_open()
            try:
                await point("step.before_call")
                output = await self._once(call)
                await point("step.after_call")
                return None if output is None else Outcome(started_at, output, attempts=attempt)
            except (asyncio.CancelledError, Unwound):
                raise
            except BaseException as error:
                failure = failures.describe(error, step=call.name)
                run.check_open()
                if not self._spec.retry.retries(error, attempt):
                    log.info(
                        "step failed",
                        workflow_id=run.id,
                        step=call.name,
                        attempts=attempt,
                        type=type(error).__name__,
                    )
                    return Outcome(started_at, error=failure, attempts=attempt, cause=error)
                pause = self._spec.retry.wait(attempt, random.random)
                deadline = self._tools.clock.now() + timedelta(seconds=pause)
                await self._pause(run, Waiting("retry", deadline=deadline, attempts=attempt, error=failure), pause)

    def abandon(self) -> None:
        """The body that is under way is not broken off. Nobody takes its result, and it isn't tried again."""
        if self._waiting is not None:
            self.cancel()
        elif self._task is not None:
            tasks.keep(self._task)

    async def _once(self, call: Call) -> Success:
        """One try: what is to be recorded, or None when it has settled the call itself."""
        # What is recorded is what can be read again, and what the workflow gets is what the record says.
        attempt = self._attempt(call)
        returned = await attempt if self._spec.timeout is None else await self._limited(attempt)
        return self._spec.output.round_trip(returned)[0]

    async def _limited(self, attempt: Awaitable[Any]) -> Any:
        limit = asyncio.timeout(self._spec.timeout)
        try:
            async with limit:
                return await attempt
        except TimeoutError:
            if limit.expired():
                raise TimedOut(f"The step was not done after {self._spec.timeout:g} s.") from None
            raise

    async def _pause(self, run: Run, waiting: Waiting | None, seconds: float) -> None:
        if seconds > self._tools.linger:
            self._waiting = self._resumes = waiting
            run.stir()
        await asyncio.sleep(max(0.0, seconds))
        await run.presence()
        self._waiting = self._resumes = None


def in_thread(
    tools: Tools, check: Callable[[], None], function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Awaitable[Any]:
    """Call a plain function in one of the threads for steps, with the caller's context variables."""

    def called() -> Any:
        check()
        try:
            return function(*args, **kwargs)
        except StopIteration as error:
            # No future takes it, so nobody would ever hear of it; in an async step it becomes this as well.
            raise RuntimeError("the step raised StopIteration") from error

    bound = functools.partial(contextvars.copy_context().run, called)
    return asyncio.get_running_loop().run_in_executor(tools.threads, bound)


def _written(run: Run, call: Call) -> Waiting | None:
    """How far the call had got when its workflow left memory."""
    wait = run.history.wait(call.seq)
    return None if wait is None else Waiting(wait.kind, None, None, wait.deadline, wait.attempts, wait.error)


class _Timed(_Task):
    """An effect with a deadline, which is fixed when it is first begun and kept over replays."""

    def __init__(self, tools: Tools, seconds: float | None) -> None:
        super().__init__()
        self._tools, self._seconds = tools, seconds
        self._started_at: datetime | None = None
        self._deadline: datetime | None = None

    def begin(self, run: Run, call: Call) -> None:
        if self._started_at is None:
            self._started_at = self._tools.clock.now()
            written = _written(run, call)
            if written is not None:
                self._deadline = written.deadline
            elif self._seconds is not None:
                self._deadline = self._started_at + timedelta(seconds=self._seconds)
        self._waiting = self.describe()
        super().begin(run, call)

    def describe(self) -> Waiting:
        raise NotImplementedError

    @property
    def since(self) -> datetime:
        return self._started_at or self._tools.clock.now()

    def left(self) -> float | None:
        """Seconds until the deadline, none left: 0; None: there is none."""
        return None if self._deadline is None else max(0.0, self._tools.clock.until(self._deadline))

    async def deadline(self) -> None:
        """Returns when it has passed; never when there is none."""
        # In pieces, for the clock is set by the database each beat and an alarm is not.
        while (left := self.left()) is None or left > 0:  # noqa: ASYNC110 - time is what it waits for
            await asyncio.sleep(60.0 if left is None else min(left, 60.0))

    def failed(self, error: Exception) -> Outcome:
        return Outcome(self.since, error=failures.describe(error), cause=error)


class Sleep(_Timed):
    def __init__(self, tools: Tools, seconds: float, until: datetime | None = None) -> None:
        super().__init__(tools, seconds)
        self._deadline = until
        if until is not None:
            self._seconds = None

    def describe(self) -> Waiting:
        return Waiting("sleep", deadline=self._deadline)

    async def work(self, run: Run, call: Call) -> Outcome:
        await self.deadline()
        return Outcome(self.since)


class Receive(_Timed):
    def __init__(self, tools: Tools, mailbox: Mailbox, topic: str, timeout: float | None) -> None:
        super().__init__(tools, timeout)
        self._mailbox, self._topic = mailbox, topic
        self._seq = 0

    def describe(self) -> Waiting:
        return Waiting("receive", deadline=self._deadline)

    def begin(self, run: Run, call: Call) -> None:
        super().begin(run, call)
        self._seq = call.seq
        self._mailbox.take(call.seq, lambda found: self._received(run, call, found))

    def cancel(self) -> None:
        super().cancel()
        self._mailbox.leave(self._seq)

    def _received(self, run: Run, call: Call, found: Found) -> None:
        run.settle(call, Outcome(self.since, found.payload, received=found.position))
        super().cancel()

    async def work(self, run: Run, call: Call) -> Outcome | None:
        await self.deadline()
        # What has come in time counts, also when nobody was there to read it until now.
        if not await self._mailbox.last_look(call.seq):
            return None
        self._mailbox.leave(call.seq)
        return self.failed(TimedOut(f"No message on {self._topic!r} had come when the time was up."))


class _Other(_Timed):
    """Waits for something of another workflow."""

    def __init__(self, tools: Tools, target: WorkflowId, key: str | None, timeout: float | None) -> None:
        super().__init__(tools, timeout)
        self.target, self.key = target, key

    def describe(self) -> Waiting:
        kind = "result" if self.key is None else "get_event"
        return Waiting(kind, self.target, self.key, self._deadline)

    async def look(self) -> Outcome | None:
        """The outcome, if there is one by now."""
        raise NotImplementedError

    async def work(self, run: Run, call: Call) -> Outcome:
        with self._tools.hub.watch(self.target, self.key or END) as watch:
            while True:
                pause: float | None = None
                try:
                    if (outcome := await self.look()) is not None:
                        return outcome
                    if self.left() == 0:
                        return self.failed(TimedOut())
                except DatabaseUnavailable:
                    pause = tasks.RETRY_PAUSE
                left = self.left()
                await watch.wait(pause if left is None else left if pause is None else min(left, pause))


class EventOf(_Other):
    async def look(self) -> Outcome | None:
        try:
            glance = await self._tools.lookup.glance(self.target, self.key or "")
        except WorkflowNotFound as error:
            return self.failed(error)
        if glance.event is not None:
            return Outcome(self.since, glance.event.value)
        return self.failed(EventNeverSet()) if glance.status.terminal else None


class ResultOf(_Other):
    async def look(self) -> Outcome | None:
        try:
            if not (await self._tools.lookup.glance(self.target)).status.terminal:
                return None
            workflow = await self._tools.lookup.workflow(self.target)
        except WorkflowNotFound as error:
            return self.failed(error)
        if workflow.status is Status.SUCCEEDED:
            return Outcome(self.since, workflow.output or NULL)
        if workflow.status.terminal:
            reason = None if workflow.error is None else values.decode(workflow.error)
            return self.failed(ChildFailed(workflow.id, workflow.status, reason))
        return None


class Command(_Task):
    """Something that the engine does once, by an idempotent statement: a send, a start, a cancel."""

    def __init__(self, tools: Tools, do: Callable[[Call], Coroutine[Any, Any, Outcome]]) -> None:
        super().__init__()
        self._tools, self._do = tools, do

    async def work(self, run: Run, call: Call) -> Outcome | None:
        started_at = self._tools.clock.now()
        while True:
            try:
                return await self._do(call)
            except DatabaseUnavailable:
                await asyncio.sleep(tasks.RETRY_PAUSE)
            except Aborted:
                run.abort()
                return None
            except MilepostError as error:
                return Outcome(started_at, error=failures.describe(error), cause=error)


class Callback:
    """Nothing but a row, which is committed with the record or before it: it needs no barrier."""

    barrier = False
    waiting = None

    def __init__(self, tools: Tools, token_hash: str, expires: float) -> None:
        self._tools, self._token_hash, self._expires = tools, token_hash, expires

    def begin(self, run: Run, call: Call) -> None:
        run.expect_callback(call, self._token_hash, self._expires)
        run.settle(call, Outcome(self._tools.clock.now()))

    def cancel(self) -> None:
        """Nothing is under way."""

    abandon = cancel


class Transaction(Step):
    """A function whose writes, and the record of the call, are one commit, fenced at its end.

    From the numbering of the record to the answer of its commit nothing else is given to the
    workflow's code: what the database has as the next result is what the code gets next.
    """

    def __init__(
        self, tools: Tools, executor: Callable[[], ExecutorId], spec: StepSpec, attempt: Callable[..., Awaitable[Any]]
    ) -> None:
        super().__init__(tools, spec, attempt)
        self._executor = executor

    async def work(self, run: Run, call: Call) -> Outcome | None:
        self._run = run
        return await super().work(run, call)

    def abandon(self) -> None:
        """Its writes would be undone anyway."""
        self.cancel()

    async def _once(self, call: Call) -> Success:
        while True:
            try:
                async with self._tools.transactions:
                    return await self._commit(self._run, call)
            except _NotNow:
                await asyncio.sleep(tasks.RETRY_PAUSE)
            finally:
                self._run.stir()

    async def _commit(self, run: Run, call: Call) -> Success:
        started_at = self._tools.clock.now()
        step: steps.Recorded | None = None
        failure: Exception | None = None
        waited = 0.0
        async with AsyncExitStack() as until_settled:
            try:
                async with self._tools.database.transaction(translate=False) as connection:
                    try:
                        output = self._spec.output.round_trip(await self._limited(self._attempt(call, connection)))[0]
                        returned_at = monotonic()
                        await until_settled.enter_async_context(run.quiet())
                        waited = monotonic() - returned_at
                        step = run.number(call, output, self._tries, started_at, self._tools.clock.now())
                        await self._record(run, step, connection)
                    except Exception as error:
                        # From the numbering on it is not the function that fails; unless it had idled for so long.
                        own = step is None or (db.idled(error) and waited < db.IDLE / 2)
                        failure = error if own and not _of_the_database(error, connection) else None
                        raise
                    await point("transaction.before_commit")
                await point("transaction.after_commit")
            except Exception as error:
                if failure is not None:
                    # Whatever the roll-back met afterwards.
                    raise failure from None
                if not _may_go_through(error, ours=step is not None):
                    raise
                if step is None or not await self._was_committed(run, step):
                    raise _NotNow from error
            run.settle(call, Outcome(started_at, step.output, attempts=self._tries, committed_at=step.completed_at))
        return None

    async def _record(self, run: Run, step: steps.Recorded, connection: db.Connection) -> None:
        record = steps.record_if_owned(connection, run.id, self._executor(), run.generation, step)
        if not await around("transaction.record", record):
            run.abort()
            raise Aborted

    async def _was_committed(self, run: Run, step: steps.Recorded) -> bool:
        """Whether a commit went through whose answer was lost; asks until the database says."""
        while True:
            try:
                return await self._tools.lookup.recorded(run.id, step)
            except DatabaseUnavailable:
                await asyncio.sleep(tasks.RETRY_PAUSE)


def _of_the_database(error: Exception, connection: db.Connection) -> bool:
    """Whether a transaction met a connection that was lost, another transaction, or a server that can't do what it is
    there for: then it is called anew. All else that its function raises is its own, and so is that it idled for longer
    than the server lets it hold locks."""
    lost = connection.closed and db.verdict(error) is db.Verdict.LOST
    return lost or db.rolled_back(error) or db.unfit(error)


def _may_go_through(error: Exception, *, ours: bool) -> bool:
    """Whether to try anew; `ours`: it was Milepost's own statement that met the error."""
    if not isinstance(error, db.FAILURES):
        return False
    verdict = db.verdict(error)
    passing = db.rolled_back(error) or db.unfit(error)
    return verdict is db.Verdict.LOST or passing or (ours and verdict is db.Verdict.BUSY)


class _NotNow(Exception):
    """The database could not carry a transaction out now; nothing of it is kept."""
