"""The nouns of Milepost, as the layers hand them to each other.

A *workflow* is one run of a registered *definition*. Its status moves like this:

                     start                  park
    (none) ──► QUEUED ──► RUNNING ◄───────────────► WAITING
                  ▲          │                         │
                  └──────────┼──── wake, hand-over ────┘
                             ▼
            SUCCEEDED · FAILED · CANCELLED · TIMED_OUT · DEAD

`SUCCEEDED` and `FAILED` are written by the executor that runs the workflow, the other three
terminal statuses from outside; those three can be resumed.

JSON values travel through the layers as `JsonText`, the compact text that is stored: nothing
between the author's code and the socket has a reason to decode them.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

WorkflowId = NewType("WorkflowId", str)
ExecutorId = NewType("ExecutorId", str)
JsonText = NewType("JsonText", str)

NULL = JsonText("null")


class Status(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    DEAD = "DEAD"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT, Status.DEAD})
RESUMABLE = frozenset({Status.CANCELLED, Status.TIMED_OUT, Status.DEAD})


class StepKind(StrEnum):
    """What a durable call was; the value stands in the step's record."""

    STEP = "step"
    TRANSACTION = "transaction"
    SLEEP = "sleep"
    RECEIVE = "receive"
    GET_EVENT = "get_event"
    SEND = "send"
    CALLBACK = "callback"
    CHILD = "child"
    RESULT = "result"
    CANCEL = "cancel"


class Workflow(NamedTuple):
    """One run of a definition, as committed. `run` tells two lives of one id apart."""

    id: WorkflowId
    run: str
    name: str
    version: str
    status: Status
    input: JsonText | None
    output: JsonText | None
    error: JsonText | None
    tags: JsonText
    queue: str | None
    priority: int
    partition: str | None
    deduplication_id: str | None
    parent_id: WorkflowId | None
    forked_from: WorkflowId | None
    schedule: str | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    completed_at: datetime | None
    deadline: datetime | None
    wake_at: datetime | None


class Event(NamedTuple):
    """One set of a key. `position` counts the sets of its workflow, over all keys, from 1."""

    position: int
    key: str
    value: JsonText
    set_at: datetime


class Step(NamedTuple):
    """A durable call that has come out: with an output, or with an error."""

    seq: int
    name: str
    kind: StepKind
    output: JsonText | None
    error: JsonText | None
    attempts: int
    started_at: datetime
    completed_at: datetime
    child_id: WorkflowId | None


class Message(NamedTuple):
    """What was sent to a workflow. `position` counts per workflow; first in, first out per topic."""

    id: str
    workflow_id: WorkflowId
    topic: str
    payload: JsonText
    position: int
    event_position: int
    sent_at: datetime
    received_at: datetime | None
