"""The durable context: what `ctx.…` does in a workflow, and what is left of it in a step."""

from __future__ import annotations

import functools
import hashlib
import hmac
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, NoReturn, Protocol

import httpx

from app import telemetry, values
from app.authoring import Context, Definition, Handle, Registry, checks, codecs, definitions
from app.authoring.context import CALLBACK_EXPIRES, Logger
from app.authoring.steps import StepSpec, digest, spec
from app.engine import effects, failures
from app.engine.calls import Call, Effect, Outcome
from app.engine.effects import Tools
from app.engine.inside import GiveWay, StepContext, TransactionContext, event_text
from app.engine.mailbox import Mailbox
from app.engine.outbound import Outbound
from app.engine.run import Run
from app.errors import AuthoringError, WorkflowNotRegistered
from app.model import NULL, ExecutorId, JsonText, StepKind, WorkflowId

_ANYTHING = codecs.of(Any)


class Commands(Protocol):
    """What a workflow does to others. All are safe to repeat, and raise Aborted when the workflow is fenced."""

    async def send_from(self, run: Run, seq: int, target: WorkflowId, topic: str, payload: JsonText) -> None: ...

    async def start_child(
        self, run: Run, id: WorkflowId, definition: Definition, input: JsonText | None
    ) -> WorkflowId: ...

    async def cancel_child(self, id: WorkflowId) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What contexts of this process have in common."""

    tools: Tools
    commands: Commands
    registry: Registry
    outbound: Outbound
    public_url: str | None
    secret: Callable[[], bytes]
    executor: Callable[[], ExecutorId]


class DurableContext(Context):
    """Each durable call is numbered, matched with its record, and carried out only when there is none."""

    def __init__(self, run: Run, around: Surroundings) -> None:
        self._run, self.around = run, around

    @property
    def workflow_id(self) -> str:
        return self._run.id

    @property
    def idempotency_key(self) -> str:
        raise AuthoringError("ctx.idempotency_key belongs to a step: pass the context to it as an argument.")

    def step(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return self._step(function, args, kwargs)

    async def _step(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        how = spec(function)
        effect = effects.Step(
            self.around.tools, how, lambda call: self._attempt(how, function, args, kwargs, call=call)
        )
        outcome = await self._run.call(StepKind.STEP, how.name, _digest(args, kwargs), effect)
        if outcome.error is not None:
            _revive(StepKind.STEP, how.name, outcome)
        return how.output.decode(_output(outcome))

    def _attempt(
        self,
        how: StepSpec,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        call: Call,
        inside: type[StepContext] = StepContext,
    ) -> Awaitable[Any]:
        def given(argument: Any) -> Any:
            return inside(self._run, self.around.outbound, call.seq) if argument is self else argument

        positional = map(given, args)
        named = {name: given(argument) for name, argument in kwargs.items()}
        if how.is_async:
            result: Awaitable[Any] = function(*positional, **named)
            return result
        return effects.in_thread(self.around.tools, self._run.check_open, function, *positional, **named)

    async def transaction(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        how = spec(function)
        if not how.is_async:
            raise AuthoringError(f"ctx.transaction takes an async function, and {how.name} is none.")

        def attempt(call: Call, connection: Any) -> Awaitable[Any]:
            bound = functools.partial(function, connection)
            return self._attempt(how, bound, args, kwargs, call=call, inside=TransactionContext)

        effect = effects.Transaction(self.around.tools, self.around.executor, how, attempt)
        outcome = await self.call(StepKind.TRANSACTION, how.name, _digest(args, kwargs), effect)
        return how.output.decode(_output(outcome))

    def set_event(self, key: str, value: Any) -> Awaitable[None]:
        text = event_text(self._run.definition, key, value)
        return GiveWay(self._run.publish(key, text))

    async def get_event(self, workflow_id: str, key: str, *, timeout: float | None = None) -> Any:
        checks.topic(key, "The event key")
        target = WorkflowId(checks.other_workflow(workflow_id))
        effect = effects.EventOf(self.around.tools, target, key, checks.timeout(timeout))
        outcome = await self.call(StepKind.GET_EVENT, key, _digest((workflow_id,), {}), effect)
        return values.decode(_output(outcome))

    async def receive(self, topic: str, *, timeout: float | None = None) -> Any:
        checks.topic(topic)
        effect = effects.Receive(self.around.tools, self._mailbox(topic), topic, checks.timeout(timeout))
        outcome = await self.call(StepKind.RECEIVE, topic, 0, effect)
        return values.decode(_output(outcome))

    def _mailbox(self, topic: str) -> Mailbox:
        run, tools = self._run, self.around.tools
        mailbox = run.mail.get(topic)
        if not isinstance(mailbox, Mailbox):
            mailbox = Mailbox(run.id, topic, hub=tools.hub, lookup=tools.lookup, counted=run.count_inbox)
            run.mail[topic] = mailbox
        return mailbox

    async def send(self, workflow_id: str, topic: str, payload: Any = None) -> None:
        checks.topic(topic)
        target = WorkflowId(checks.other_workflow(workflow_id))
        text = _ANYTHING.encode(payload)

        async def do(call: Call) -> Outcome:
            since = self.around.tools.clock.now()
            await self.around.commands.send_from(self._run, call.seq, target, topic, text)
            return Outcome(since)

        await self.command(StepKind.SEND, topic, _digest((workflow_id, text), {}), do)

    async def sleep(self, seconds: float) -> None:
        await self.call(
            StepKind.SLEEP, "sleep", 0, effects.Sleep(self.around.tools, checks.seconds(seconds, "The sleep"))
        )

    async def sleep_until(self, when: datetime) -> None:
        effect = effects.Sleep(self.around.tools, 0, until=checks.point_in_time(when))
        await self.call(StepKind.SLEEP, "sleep_until", 0, effect)

    async def start(
        self, workflow: Callable[..., Awaitable[Any]] | str, input: Any = None, *, id: str | None = None
    ) -> Handle:
        definition = self._definition(workflow)
        text = None if input is None and definition.input is None else (definition.input or _ANYTHING).encode(input)
        if id is not None:
            checks.workflow_id(id)

        async def do(call: Call) -> Outcome:
            since = self.around.tools.clock.now()
            definition.arguments(text)
            child = WorkflowId(id or str(uuid.uuid5(uuid.UUID(self._run.token), str(call.seq))))
            await self.around.commands.start_child(self._run, child, definition, text)
            return Outcome(since, child_id=child)

        outcome = await self.command(StepKind.CHILD, definition.name, _digest((text, id), {}), do)
        return DurableHandle(self, outcome.child_id or WorkflowId(""))

    def _definition(self, workflow: Callable[..., Awaitable[Any]] | str) -> Definition:
        if not isinstance(workflow, str):
            return definitions.of(workflow)
        found = self.around.registry.newest(workflow)
        if found is None:
            raise WorkflowNotRegistered(f"No workflow is registered under the name {workflow!r}.")
        return found

    async def callback(self, topic: str, *, expires: float = CALLBACK_EXPIRES) -> str:
        checks.topic(topic)
        length = checks.seconds(expires, "The time until the callback expires")
        base = self.around.public_url
        if base is None:
            raise AuthoringError(
                "A callback needs the address at which this service is reached from outside: set MILEPOST_PUBLIC_URL."
            )
        key = f"{self._run.id}:{self._run.token}:{self._run.upcoming}".encode()
        token = hmac.new(self.around.secret(), key, hashlib.sha256).hexdigest()
        hashed = hashlib.sha256(token.encode()).hexdigest()
        effect = effects.Callback(self.around.tools, hashed, length)
        await self.call(StepKind.CALLBACK, topic, _digest((length,), {}), effect)
        return f"{base}/callbacks/{token}"

    @property
    def http(self) -> httpx.AsyncClient:
        raise AuthoringError(
            "ctx.http belongs to a step, for its outcome must be recorded: pass the context to a step and use it there."
        )

    def now(self) -> datetime:
        return self._run.now()

    @property
    def random(self) -> Random:
        return self._run.random

    def uuid(self) -> uuid.UUID:
        return self._run.uuid()

    @property
    def logger(self) -> Logger:
        return _Quiet(telemetry.logger("workflow").bind(workflow_id=self._run.id), self._run)

    async def command(
        self, kind: StepKind, name: str, digest: int, do: Callable[[Call], Coroutine[Any, Any, Outcome]]
    ) -> Outcome:
        return await self.call(kind, name, digest, effects.Command(self.around.tools, do))

    async def call(self, kind: StepKind, name: str, digest: int, effect: Effect) -> Outcome:
        outcome = await self._run.call(kind, name, digest, effect)
        if outcome.error is not None:
            _revive(kind, name, outcome)
        return outcome


class DurableHandle(Handle):
    def __init__(self, parent: DurableContext, id: WorkflowId) -> None:
        self._parent, self._id = parent, id

    @property
    def id(self) -> str:
        return self._id

    async def result(self, *, timeout: float | None = None) -> Any:
        effect = effects.ResultOf(self._parent.around.tools, self._id, None, checks.timeout(timeout))
        outcome = await self._parent.call(StepKind.RESULT, "result", _digest((self._id,), {}), effect)
        return values.decode(_output(outcome))

    async def get_event(self, key: str, *, timeout: float | None = None) -> Any:
        return await self._parent.get_event(self._id, key, timeout=timeout)

    async def cancel(self) -> None:
        async def do(call: Call) -> Outcome:
            since = self._parent.around.tools.clock.now()
            await self._parent.around.commands.cancel_child(self._id)
            return Outcome(since)

        await self._parent.command(StepKind.CANCEL, "cancel", _digest((self._id,), {}), do)


class _Quiet:
    """A logger that says nothing while records are given back."""

    def __init__(self, logger: telemetry.Logger, run: Run) -> None:
        self._logger, self._run = logger, run

    def __getattr__(self, name: str) -> Any:
        return _silent if self._run.replaying else getattr(self._logger, name)


def _silent(*_: Any, **__: Any) -> None:
    """Said already, when it was recorded."""


def _revive(kind: StepKind, name: str, outcome: Outcome) -> NoReturn:
    """Raise what a call ended with."""
    raise failures.revive(kind, name, outcome.error or NULL, outcome.attempts) from outcome.cause


def _output(outcome: Outcome) -> JsonText:
    return NULL if outcome.output is None else outcome.output


def _digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return int.from_bytes(digest(args, kwargs), "big", signed=True)
