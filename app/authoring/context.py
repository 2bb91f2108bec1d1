"""The context: all that a workflow function may do durably, and all that it can know.

A workflow function is run again after a crash, from its start, and what it has done already is
given back from its records instead of being done again. So between durable calls it must take
the same way each time: it asks the context for the time, for random numbers and for ids, and
does whatever reaches outside (requests, files, other databases) in steps.

A step that takes the context as an argument may use it for `set_event`, `workflow_id`,
`idempotency_key`, `http` and `logger`; every other call raises AuthoringError there. Durable calls
of one workflow may run side by side (`asyncio.gather`, `asyncio.TaskGroup`), but only in tasks that
the workflow started.

Every durable call may raise a BaseException that takes the function off the stack: the workflow
was suspended, cancelled, or goes on elsewhere. Let it pass; `except Exception` does.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from random import Random
    from uuid import UUID

    import httpx

P = ParamSpec("P")
R = TypeVar("R")

CALLBACK_EXPIRES = 604_800.0


class Logger(Protocol):
    """What `ctx.logger` can do: a message, and named values beside it."""

    def debug(self, event: str, /, *args: Any, **values: Any) -> Any: ...
    def info(self, event: str, /, *args: Any, **values: Any) -> Any: ...
    def warning(self, event: str, /, *args: Any, **values: Any) -> Any: ...
    def error(self, event: str, /, *args: Any, **values: Any) -> Any: ...
    def exception(self, event: str, /, *args: Any, **values: Any) -> Any: ...


class Handle(abc.ABC):
    """A child workflow, as its parent sees it. All calls are durable calls of the parent."""

    @property
    @abc.abstractmethod
    def id(self) -> str:
        """The child's workflow id."""

    @abc.abstractmethod
    async def result(self, *, timeout: float | None = None) -> Any:
        """The child's output, as JSON gives it, once it has succeeded.

        Raises ChildFailed (`status`, `error`) when it ended in another way, and TimedOut when it
        is still active after `timeout` seconds (None: wait for ever).
        """

    @abc.abstractmethod
    async def get_event(self, key: str, *, timeout: float | None = None) -> Any:
        """The value of one of the child's events; as `Context.get_event`."""

    @abc.abstractmethod
    async def cancel(self) -> None:
        """Cancel the child and its children. One that has ended stays as it ended."""


class Context(abc.ABC):
    """The first argument of every workflow function."""

    @property
    @abc.abstractmethod
    def workflow_id(self) -> str:
        """The id of this workflow."""

    @property
    @abc.abstractmethod
    def idempotency_key(self) -> str:
        """Inside a step: `<workflow id>:<seq of the step>`, the same in each of its tries and runs.

        Pass it on to services that drop repeated requests by such a key. Outside a step it raises
        AuthoringError.
        """

    @overload
    def step(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @abc.abstractmethod
    def step(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call a function, and record what came of it: from then on this call gives back the record.

        An async function runs in the event loop, a plain one in a thread. `@step` on the function
        says how often it is tried and how long a try may take. It may be called more than once for
        one record (the process may die before the record is written), and then with the same
        `idempotency_key`.

        What is returned is what the record decodes to by the function's return annotation: a
        tuple without annotation comes back as a list. The context may be among the arguments.

        Raises StepFailed (`step`, `type`, `message`, `details`, `attempts`) when it failed for
        good; the original exception is its `__cause__` the first time, not in a replay.
        """

    @abc.abstractmethod
    def set_event(self, key: str, value: Any) -> Awaitable[None]:
        """Publish a value under a key, for everyone who reads or waits for it.

        It takes effect at the call; awaiting what it returns adds only back-pressure. A key may be
        set any number of times, and each set is kept in the log. Readers see it when it is
        committed, which is before the next step begins.

        Inside a step it is committed at once, and set again when the step is run again. It may be
        called from the step's thread, where nothing need be awaited.

        Raises AuthoringError when the key or the value's type is not what the definition says,
        InvalidRequest when the value can't be held by JSON, ValueTooLarge beyond 1 MiB.
        """

    @abc.abstractmethod
    async def get_event(self, workflow_id: str, key: str, *, timeout: float | None = None) -> Any:
        """The current value of another workflow's event, as JSON gives it; waits until it is set.

        Raises TimedOut after `timeout` seconds (None: wait for ever), EventNeverSet when that
        workflow has ended without it, WorkflowNotFound when there is none of this id.
        """

    @abc.abstractmethod
    async def receive(self, topic: str, *, timeout: float | None = None) -> Any:
        """The payload of the next message on a topic, as JSON gives it; waits until there is one.

        Messages of a topic are received in the order in which they were accepted, each once; they
        are kept from the moment the workflow was started. Raises TimedOut after `timeout` seconds
        (None: wait for ever).
        """

    @abc.abstractmethod
    async def send(self, workflow_id: str, topic: str, payload: Any = None) -> None:
        """Send a message to another workflow, once.

        Raises WorkflowNotFound when there is none of this id, WorkflowFinished when it has ended.
        """

    @abc.abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Go on after so many seconds, counted from the first time this call was reached."""

    @abc.abstractmethod
    async def sleep_until(self, when: datetime) -> None:
        """Go on at a point in time, given with its time zone; at once when it has passed."""

    @abc.abstractmethod
    async def start(
        self, workflow: Callable[..., Awaitable[Any]] | str, input: Any = None, *, id: str | None = None
    ) -> Handle:
        """Start a child workflow, once, by its function or by its name (then the newest version).

        `id` names it; one is made unless given. Cancelling this workflow cancels its children,
        but they go on when it ends by itself. Raises AuthoringError when the child does not take
        this input, WorkflowNotRegistered for an unknown name, WorkflowIdConflict when the id is
        taken by a workflow that this one did not start.
        """

    @abc.abstractmethod
    async def callback(self, topic: str, *, expires: float = CALLBACK_EXPIRES) -> str:
        """An absolute URL that turns one POST of JSON into a message to this workflow.

        It is for a party that knows nothing of workflows, needs no API key, can't be guessed, and
        is good for `expires` seconds (a week unless given). Receive the payload with
        `receive(topic)`.
        """

    @abc.abstractmethod
    async def transaction(
        self,
        function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call `function(connection, *args)` inside a transaction, exactly once as far as it can be seen.

        `connection` is a psycopg AsyncConnection to Milepost's own database. The function's writes
        and the record of this call are one commit; so it must neither commit nor roll back itself,
        and should be short. Durable calls inside it raise AuthoringError.

        `@step` on the function works as for `step`; raises StepFailed likewise, with nothing of
        its writes kept.
        """

    @property
    @abc.abstractmethod
    def http(self) -> httpx.AsyncClient:
        """Inside an async step: an HTTP client that sends the `idempotency_key` as `Idempotency-Key`.

        Its connections are shared by the steps of this process; do not close it. Outside a step
        it raises AuthoringError: a request from the workflow itself would be repeated in replay.
        """

    @abc.abstractmethod
    def now(self) -> datetime:
        """The time in UTC, the same in replay; it stands still between durable calls."""

    @property
    @abc.abstractmethod
    def random(self) -> Random:
        """Random numbers, seeded by the workflow's id: the same ones in replay. Not for secrets."""

    @abc.abstractmethod
    def uuid(self) -> UUID:
        """A fresh UUID, the same one in replay."""

    @property
    @abc.abstractmethod
    def logger(self) -> Logger:
        """A logger that adds the workflow's id and says nothing while records are replayed."""
