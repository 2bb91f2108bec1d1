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
from contextvars import Context, copy_context
from dataclasses import dataclass
from threading import get_ident
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack, cast

from app import telemetry
from app.errors import AuthoringError

log = telemetry.logger(__name__)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Load(Protocol):
    """What the code that is run may make too heavy."""

    heavy: bool


@dataclass(slots=True)
class _Light:
    heavy: bool = False


_LIGHT = _Light()


class _Handle(asyncio.Handle):
    """A callback that waits for its turn. It does without what asyncio's own keeps for debugging."""

    __slots__ = ("arguments", "callback", "context", "gone")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context) -> None:
        self.callback, self.arguments, self.context = callback, arguments, context
        self.gone = False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.callback!r}{' cancelled' if self.gone else ''}>"


class WorkflowLoop(asyncio.AbstractEventLoop):
    """Runs callbacks when `turn` is called, and at no other time."""

    def __init__(self, wanted: Callable[[], None], clock: Callable[[], float]) -> None:
        """`wanted` is called when a callback was added and nobody attends to the loop."""
        self._ready: deque[_Handle] = deque()
        self._wanted = wanted
        self._clock = clock
        self._thread: int | None = None
        """The thread that is turning it."""
        self.attended = False
        """Whoever adds callbacks now will turn it by himself, or see that it is turned."""
        self.tasks: set[asyncio.Task[Any]] = set()
        """The tasks that the workflow's code has made, and that have not ended."""

    @property
    def idle(self) -> bool:
        return not self._ready

    @property
    def runs_here(self) -> bool:
        """Whether the caller is one of its callbacks."""
        return self._thread == get_ident()

    def turn(self, limit: int, load: Load = _LIGHT) -> None:
        """Run up to `limit` callbacks, or until the load is heavy. Must be called from a plain callback, not from
        within a task."""
        ready = self._ready
        if not ready:
            return
        # What asyncio offers to those who write event loops; it has no public names for it.
        outer = events._get_running_loop()
        events._set_running_loop(self)
        self._thread = get_ident()
        try:
            while ready and limit and not load.heavy:
                limit -= 1
                handle = ready.popleft()
                if handle.gone:
                    continue
                try:
                    handle.context.run(handle.callback, *handle.arguments)
                except (SystemExit, KeyboardInterrupt) as error:
                    # The task holds it as well, so the workflow fails with it; it must not end the service.
                    log.warning("a workflow's code tried to end the process", error=repr(error))
                except BaseException as error:
                    self.call_exception_handler({"message": f"in {handle!r}", "exception": error})
        finally:
            self._thread = None
            events._set_running_loop(outer)

    def detach(self) -> None:
        """Nobody turns it any more; and it holds nobody, so that what it ran is freed at once."""
        self._wanted = _nothing

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        if self._thread is None and not self.attended:
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

    def run_main(self, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task for the workflow's own function. In a context of its own: what started it may be a request, whose
        variables are nothing to it."""
        return asyncio.Task(main, loop=self, context=Context())

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
