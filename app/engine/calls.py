"""Durable calls on their way: what is called, what carries it out, and how it comes out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from app.model import JsonText, StepKind, WorkflowId

if TYPE_CHECKING:
    from app.engine.run import Run


class Outcome(NamedTuple):
    """How a durable call came out: `error` is None when it went well."""

    started_at: datetime
    output: JsonText | None = None
    error: JsonText | None = None
    attempts: int = 1
    child_id: WorkflowId | None = None
    received: int | None = None
    """Position of the message that it consumed."""
    cause: BaseException | None = None
    committed_at: datetime | None = None
    """Set when it is recorded already, by a transaction of its own."""


class Waiting(NamedTuple):
    """What a parked call waits for."""

    kind: str
    target: WorkflowId | None = None
    key: str | None = None
    deadline: datetime | None = None
    attempts: int = 0
    error: JsonText | None = None


class Effect(Protocol):
    """What a durable call does once it may: it ends in `run.settle(call, outcome)`."""

    @property
    def barrier(self) -> bool:
        """Whether all that was recorded before the call must be committed first."""

    def begin(self, run: Run, call: Call) -> None: ...

    def cancel(self) -> None:
        """The call isn't waited for any more. Begin may follow again, after a park."""

    def abandon(self) -> None:
        """The workflow was ended from outside. What a step is doing it goes on doing, and nobody takes the result."""

    @property
    def waiting(self) -> Waiting | None:
        """What it waits for, while that can be done without memory; None while something runs."""


@dataclass(slots=True, eq=False)
class Call:
    """A durable call that has not come out."""

    seq: int
    kind: StepKind
    name: str
    digest: int
    future: asyncio.Future[Outcome]
    effect: Effect
    gate: int = 0
    begun: bool = False


class Mail(Protocol):
    """Where the messages of a topic come from."""

    def dealt(self, position: int, *, kept: bool) -> None:
        """A message that was found for a call was given to the code; or the code had given the call up."""
