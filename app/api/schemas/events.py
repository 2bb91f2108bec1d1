"""Events: the board, the log and the stream."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from app.api.schemas.base import (
    After,
    Cursor,
    Flag,
    Keys,
    Limit,
    Long,
    Mode,
    Moment,
    Out,
    Query,
    Timeout,
    WorkflowStatus,
)

WHICH = "Only these keys; may be repeated."


class EventQuery(Query):
    timeout: Timeout = None
    after: After = 0


class BoardQuery(Query):
    key: Annotated[Keys, Field(description=f"{WHICH} Every key that is named is in the answer.")] = ()
    mode: Annotated[Mode, Field(description="Whether all named keys are waited for, or any of them.")] = Mode.ALL
    after: After = 0
    timeout: Timeout = None
    limit: Limit = 100
    cursor: Cursor = None


class HistoryQuery(Query):
    after: After = 0
    key: Annotated[Keys, Field(description=WHICH)] = ()
    limit: Limit = 1_000
    timeout: Annotated[Timeout, Field(description="Seconds to wait at most while there is none.")] = 0.0
    cursor: Cursor = None


class StreamQuery(Query):
    after: After = 0
    key: Annotated[Keys, Field(description=WHICH)] = ()
    names: Annotated[Flag, Field(description="false leaves `event:` out, so that one listener gets all events.")] = True


class SetEvent(Out):
    """What stands under a key of a workflow."""

    workflow_id: str
    key: str
    state: Literal["set"]
    value: Annotated[Any, Field(description="Any JSON value; null as well when the key was set to null.")]
    position: Annotated[Long, Field(ge=1, description="Counts all sets of the workflow from 1.")]
    set_at: Moment
    workflow_status: WorkflowStatus


class UnsetEvent(Out):
    workflow_id: str
    key: str
    value: Annotated[Any, Field(description="What was set before `after`, otherwise null.")]
    position: Annotated[Long, Field(ge=0, description="Where that was set, otherwise 0.")]
    set_at: Moment | None
    workflow_status: WorkflowStatus


class PendingEvent(UnsetEvent):
    """A key that is not set yet, or to nothing newer than was asked for."""

    state: Literal["pending"]


class NeverEvent(UnsetEvent):
    """A key that is not set, or to nothing newer, and can't be any more: the workflow has ended."""

    state: Literal["never"]


Event = TypeAliasType("Event", Annotated[SetEvent | PendingEvent | NeverEvent, Field(discriminator="state")])
EventsByKey = TypeAliasType(
    "EventsByKey", Annotated[dict[str, Event], Field(description="Every key that was waited for, and what came of it.")]
)


class EventPage(Out):
    """Events of a workflow: of its board, or of its log."""

    events: list[Event]
    position: Annotated[Long, Field(description="The workflow's last position, or where to go on reading the log.")]
    workflow_status: WorkflowStatus
    next_cursor: str | None
