"""The context of `testing.run`: durable calls as the engine makes them, with nothing written down."""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app import values
from app.authoring import checks, codecs, definitions, steps
from app.authoring.codecs import Codec
from app.authoring.context import CALLBACK_EXPIRES, Context, Handle, Logger
from app.authoring.definitions import Definition
from app.authoring.steps import StepSpec
from app.authoring.testing.children import Child
from app.authoring.testing.clock import Clock
from app.authoring.testing.inside import Inside
from app.authoring.testing.log import Log
from app.authoring.testing.outcome import Later, Outcome, Script, SentMessage, StartedChild, StepRun
from app.errors import (
    Aborted,
    AuthoringError,
    EventNeverSet,
    Fatal,
    StepFailed,
    TimedOut,
    WorkflowNotFound,
)

if TYPE_CHECKING:
    import httpx

_JSON: Codec[Any] = codecs.of(Any)


# Whose step runs, also in its thread: the workflow's own context can't be used there.
_step_of: ContextVar[Rehearsal | None] = ContextVar("step_of", default=None)


class _Done:
    """Set already; there is nothing to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class Rehearsal(Context):
    def __init__(self, id: str, definition: Definition, script: Script, outcome: Outcome, clock: Clock) -> None:
        self._id = id
        self._definition = definition
        self._script = script
        self._outcome = outcome
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._seq = 0
        self._random = Random(id)  # noqa: S311 (the same in each run is the point)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._inbox: defaultdict[str, deque[Any]] = defaultdict(deque)
        self._receivers: defaultdict[str, deque[asyncio.Future[Any]]] = defaultdict(deque)
        self._readers: defaultdict[str, list[asyncio.Future[Any]]] = defaultdict(list)
        self.expired = False
        for topic, payloads in script.messages.items():
            for payload in payloads:
                self._post(checks.topic(topic), payload)
        if definition.timeout is not None:
            clock.timer(definition.timeout).add_done_callback(lambda _: self._expire())

    # What a workflow knows.

    @property
    def workflow_id(self) -> str:
        return self._id

    @property
    def idempotency_key(self) -> str:
        raise AuthoringError("ctx.idempotency_key belongs to a step: pass the context to it as an argument.")

    @property
    def http(self) -> httpx.AsyncClient:
        raise AuthoringError("ctx.http belongs to a step: pass the context to it as an argument, and use it there.")

    def now(self) -> datetime:
        return self._script.start + timedelta(seconds=self._clock.elapsed)

    @property
    def random(self) -> Random:
        return self._random

    def uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    @property
    def logger(self) -> Logger:
        return Log()

    # What it does.

    async def step(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await self._run(self.begin(), function, args, kwargs)

    async def transaction(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if not steps.spec(function).is_async:
            raise AuthoringError(f"{steps.spec(function).name} is not an async function, as a transaction's must be.")
        return await self._run(self.begin(), function, args, kwargs, in_transaction=True)

    def set_event(self, key: str, value: Any) -> Awaitable[None]:
        self._check()
        return self.publish(key, value)

    async def get_event(self, workflow_id: str, key: str, *, timeout: float | None = None) -> Any:
        self.begin()
        checks.topic(key, "The event key")
        limit, what = checks.timeout(timeout), f"get_event({workflow_id!r}, {key!r})"
        if workflow_id == self._id:
            if not self._outcome.log(key):
                reader = self._loop.create_future()
                self._readers[key].append(reader)
                await self._wait(reader, limit, what)
            return self._outcome.event(key)
        if workflow_id not in self._script.events:
            raise WorkflowNotFound(f"There is no workflow {workflow_id!r}; testing.run(events=…) may give it events.")
        board = self._script.events[workflow_id]
        if key not in board:
            raise EventNeverSet(f"The workflow {workflow_id!r} has ended without setting {key!r}.")
        value = await self.in_time(board[key], limit, what)
        if isinstance(value, Exception):
            raise value
        return values.decode(_JSON.encode(value))

    async def receive(self, topic: str, *, timeout: float | None = None) -> Any:
        self.begin()
        limit = checks.timeout(timeout)
        if self._inbox[checks.topic(topic)]:
            return self._inbox[topic].popleft()
        receiver = self._loop.create_future()
        self._receivers[topic].append(receiver)
        try:
            return await self._wait(receiver, limit, f"receive({topic!r})")
        finally:
            if receiver in self._receivers[topic]:
                self._receivers[topic].remove(receiver)

    async def send(self, workflow_id: str, topic: str, payload: Any = None) -> None:
        self.begin()
        sent = values.decode(_JSON.encode(payload))
        self._outcome.sent.append(SentMessage(workflow_id, checks.topic(topic), sent))
        if workflow_id == self._id:
            self._deliver(topic, sent)

    async def sleep(self, seconds: float) -> None:
        self.begin()
        span = checks.seconds(seconds, "The time to sleep")
        await self._wait(self._clock.timer(span), None, f"sleep({span:g})")

    async def sleep_until(self, when: datetime) -> None:
        self.begin()
        span = (checks.point_in_time(when) - self.now()).total_seconds()
        await self._wait(self._clock.timer(max(span, 0.0)), None, f"sleep_until({when})")

    async def start(
        self, workflow: Callable[..., Awaitable[Any]] | str, input: Any = None, *, id: str | None = None
    ) -> Handle:
        self.begin()
        child_id = str(self.uuid()) if id is None else checks.workflow_id(id)
        name, output, text = str(workflow), _JSON, _JSON.encode(None)
        if isinstance(workflow, str):
            text = _JSON.encode(input)
        else:
            definition = definitions.of(workflow)
            if definition.input is not None or input is not None:
                text = (definition.input or _JSON).encode(input)
            definition.arguments(text)
            name, output = definition.name, definition.output
        child = StartedChild(child_id, name, values.decode(text))
        self._outcome.children.append(child)
        return Child(self, self._script, self._outcome, child, workflow=workflow, output=output)

    async def callback(self, topic: str, *, expires: float = CALLBACK_EXPIRES) -> str:
        seq = self.begin()
        checks.seconds(expires, "The time to expire")
        url = f"http://milepost.test/callbacks/{seq}"
        self._outcome.callbacks[url] = checks.topic(topic)
        return url

    async def close(self, main: asyncio.Task[Any]) -> None:
        """Take off the stack what still runs or waits."""
        for task in (*self._tasks, main):
            task.cancel()
        # Gathered, so that no error of a branch that nobody awaits any more is complained about later.
        await asyncio.gather(*self._tasks, main, return_exceptions=True)

    # Steps.

    def publish(self, key: str, value: Any) -> Awaitable[None]:
        checks.event_key(key)
        current = values.decode(self._definition.events.get(key, _JSON).encode(value))
        self._outcome.events.append((key, current))
        self._loop.call_soon_threadsafe(self._tell, key)
        return _Done()

    def client(self, idempotency_key: str) -> httpx.AsyncClient:
        import httpx

        if self._script.http is None:
            raise AuthoringError("The workflow makes a request: give testing.run an `http` that answers it.")
        headers = {"Idempotency-Key": idempotency_key}
        return httpx.AsyncClient(transport=httpx.MockTransport(self._script.http), headers=headers)

    async def _run(
        self,
        seq: int,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        in_transaction: bool = False,
    ) -> Any:
        spec = steps.spec(function)
        inside = Inside(self, seq, in_loop=spec.is_async, in_transaction=in_transaction)
        given = [inside if argument is self else argument for argument in args]
        if in_transaction:
            given.insert(0, self._script.connection)
        named = {name: inside if argument is self else argument for name, argument in kwargs.items()}
        attempt = 1
        while True:
            try:
                with self._clock.standing():
                    output = spec.output.round_trip(await self._try(spec, function, given, named))[1]
            except Exception as error:
                if spec.retry.retries(error, attempt):
                    pause = self._clock.timer(spec.retry.wait(attempt, self._random.random))
                    await self._wait(pause, None, f"the next try of {spec.name}")
                    attempt += 1
                    continue
                self._outcome.steps.append(StepRun(spec.name, args, kwargs, None, error, attempt))
                details = error.details if isinstance(error, Fatal) else None
                raise StepFailed(spec.name, type(error).__name__, str(error), details, attempt) from error
            self._outcome.steps.append(StepRun(spec.name, args, kwargs, output, None, attempt))
            if self.expired:
                raise Aborted
            return output

    async def _try(self, spec: StepSpec, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        limit = asyncio.timeout(spec.timeout)
        token = _step_of.set(self)
        try:
            async with limit:
                root = steps.root(function)
                if root in self._script.steps:
                    return await _stand_in(self._script.steps[root], args, kwargs)
                if spec.is_async:
                    return await function(*args, **kwargs)
                return await asyncio.to_thread(function, *args, **kwargs)
        except TimeoutError:
            if limit.expired():
                raise TimedOut(f"{spec.name} took longer than {spec.timeout} s.") from None
            raise
        finally:
            _step_of.reset(token)

    # The rest.

    def begin(self) -> int:
        """Number a durable call."""
        self._check()
        self._seq += 1
        return self._seq

    def _check(self) -> None:
        if _step_of.get() is self:
            raise AuthoringError("Durable calls can't be made in a step; to set events there, pass the context to it.")
        if self.expired:
            raise Aborted
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self._clock.stir()

    async def _wait(self, future: asyncio.Future[Any], timeout: float | None, what: str) -> Any:
        self._waiting.add(future)
        try:
            if not await self._clock.wait(future, timeout, what):
                raise TimedOut(f"{what} was not answered within {timeout} s.")
            return future.result()
        finally:
            self._waiting.discard(future)

    async def in_time(self, given: Any, timeout: float | None, what: str) -> Any:
        if not isinstance(given, Later):
            return given
        await self._wait(self._clock.timer(given.seconds - self._clock.elapsed), timeout, what)
        return given.value

    def _post(self, topic: str, payload: Any) -> None:
        if not isinstance(payload, Later):
            self._deliver(topic, values.decode(_JSON.encode(payload)))
            return
        message = values.decode(_JSON.encode(payload.value))
        self._clock.timer(payload.seconds).add_done_callback(lambda _: self._deliver(topic, message))

    def _deliver(self, topic: str, payload: Any) -> None:
        receivers = self._receivers[topic]
        while receivers:
            receiver = receivers.popleft()
            if not receiver.done():
                receiver.set_result(payload)
                return
        self._inbox[topic].append(payload)

    def _tell(self, key: str) -> None:
        for reader in self._readers.pop(key, ()):
            if not reader.done():
                reader.set_result(None)

    def _expire(self) -> None:
        self.expired = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(Aborted())


async def _stand_in(stand_in: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if isinstance(stand_in, BaseException):
        raise stand_in
    result = stand_in(*args, **kwargs) if callable(stand_in) else stand_in
    return await result if inspect.isawaitable(result) else result
