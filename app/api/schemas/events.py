"""Events: the board, the log and the stream."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.schemas.base import After, Cursor, Flag, Keys, Limit, Mode, Moment, Out, Query, Timeout
from app.model import Status

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


class Event(Out):
    """What stands under a key of a workflow, or that nothing does."""

    workflow_id: str
    key: str
    state: Annotated[
        Literal["set", "pending", "never"],
        Field(description="Set; not yet (or nothing newer than asked for); or: the workflow has ended without it."),
    ]
    value: Annotated[Any, Field(description="Any JSON value; null as well when the key was set to null.")]
    position: Annotated[int, Field(description="Counts all sets of the workflow from 1; 0 when never set.")]
    set_at: Moment | None
    workflow_status: Status


class Events(Out):
    """The board or the log of a workflow."""

    events: list[Event]
    position: Annotated[int, Field(description="The workflow's last position, or where to go on reading the log.")]
    workflow_status: Status
    next_cursor: str | None
