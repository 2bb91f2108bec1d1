"""What a test gives to a run, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.model import Status

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Later:
    """A message, event or result that comes some seconds after the start of the run."""

    seconds: float
    value: Any


@dataclass(frozen=True)
class Script:
    """The world around a run; the words are those of `testing.run`."""

    messages: Mapping[str, Sequence[Any]]
    steps: Mapping[Any, Any]
    events: Mapping[str, Mapping[str, Any]]
    children: Mapping[Any, Any]
    connection: Any
    http: Callable[[httpx.Request], httpx.Response] | None
    start: datetime


@dataclass(frozen=True)
class StepRun:
    """A step or transaction that was called, and what came of it after all its tries."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    error: BaseException | None
    attempts: int


@dataclass(frozen=True)
class SentMessage:
    workflow_id: str
    topic: str
    payload: Any


@dataclass(frozen=True)
class StartedChild:
    id: str
    name: str
    input: Any


@dataclass
class Outcome:
    """How a run ended, and all that could be seen of it. Values are as a reader of JSON gets them."""

    status: Status = Status.RUNNING
    output: Any = None
    """What the workflow returned, by its annotation."""
    error: BaseException | None = None
    events: list[tuple[str, Any]] = field(default_factory=list)
    """Every set of a key, in order."""
    steps: list[StepRun] = field(default_factory=list)
    """In the order in which they came out."""
    sent: list[SentMessage] = field(default_factory=list)
    children: list[StartedChild] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    """The ids of children that were cancelled."""
    callbacks: dict[str, str] = field(default_factory=dict)
    """The topic of each callback URL that was made."""
    elapsed: float = 0.0
    """Virtual seconds."""

    def event(self, key: str) -> Any:
        """The last value that was set under a key; KeyError if there was none."""
        found = self.log(key)
        if not found:
            raise KeyError(f"the event {key!r} was not set; these were: {sorted({name for name, _ in self.events})}")
        return found[-1]

    def log(self, key: str) -> list[Any]:
        """All values that were set under a key, in order."""
        return [value for name, value in self.events if name == key]
