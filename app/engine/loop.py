"""The event loop on which one workflow's own code runs.

Replay has to hand over the next recorded result exactly when every task of the workflow is blocked,
and asyncio has no way to ask for that. So a workflow gets a loop to itself: a queue of callbacks that
the engine turns, on the service's thread and inside one callback of the service's loop, until it is
empty. Then, and only then, every task is blocked, and nothing but the engine can unblock one. `gather`,
`TaskGroup`, queues, locks and races work as ever. What reaches outside of the workflow (timers, sockets,
threads) isn't there and says what to use instead: its outcome would not be in the record.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack, cast

from app import telemetry
from app.errors import AuthoringError

log = telemetry.logger(__name__)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WorkflowLoop(asyncio.AbstractEventLoop):
    """Runs callbacks when `turn` is called, and at no other time."""

    def __init__(self, wanted: Callable[[], None], clock: Callable[[], float]) -> None:
        """`wanted` is called when a callback was added from outside of a turn."""
        self._ready: deque[asyncio.Handle] = deque()
        self._wanted = wanted
        self._clock = clock
        self._turning = False
        self.tasks: set[asyncio.Task[Any]] = set()
        """The workflow's tasks that have not ended."""

    @property
    def idle(self) -> bool:
        return not self._ready

    def turn(self, limit: int, enough: Callable[[], bool] = lambda: False) -> None:
        """Run up to `limit` callbacks, or until it is `enough`. Must be called from a plain callback, not from
        within a task."""
        ready = self._ready
        if not ready:
            return
        # What asyncio offers to those who write event loops; it has no public names for it.
        outer = events._get_running_loop()
        events._set_running_loop(self)
        self._turning = True
        try:
            while ready and limit and not enough():
                limit -= 1
                handle = ready.popleft()
                if not handle.cancelled():
                    _run(handle)
        finally:
            self._turning = False
            events._set_running_loop(outer)

    def detach(self) -> None:
        """Nobody turns it any more; and it holds nobody, so that what it ran is freed at once."""
        self._wanted = _nothing

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._turning:
            self._wanted()
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context, **options)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def time(self) -> float:
        return self._clock()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        log.warning("a task of a workflow failed unheard", message=context.get("message"), error=repr(error))

    def get_task_factory(self) -> None:
        return None

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> NoReturn:
        raise AuthoringError(_NO_TIMERS)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> NoReturn:
        raise AuthoringError(_NO_TIMERS)

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> NoReturn:
        raise AuthoringError("A workflow's code can't be called from other threads: use a step, or send it a message.")

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> NoReturn:
        raise AuthoringError("A workflow's code can't use threads: a plain `def` step runs in one.")


_NO_TIMERS = (
    "A workflow's code can't use timers of asyncio (sleep, timeout, wait_for): they would start anew after a crash."
    " Use ctx.sleep(…), the timeout= of durable calls, or a step."
)


def _nothing() -> None:
    """Nobody is there to be told."""


def make(wanted: Callable[[], None], clock: Callable[[], float]) -> WorkflowLoop:
    """A loop. (To a type checker the class is abstract: it has no sockets and no subprocesses, on purpose.)"""
    loop: WorkflowLoop = cast("Any", WorkflowLoop)(wanted, clock)
    return loop


def _run(handle: asyncio.Handle) -> None:
    try:
        handle._run()
    except (SystemExit, KeyboardInterrupt) as error:
        # The task holds it as well, so the workflow fails with it; it must not end the service.
        log.warning("a workflow's code tried to end the process", error=repr(error))
