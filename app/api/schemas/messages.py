"""Messages."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from app.api.schemas.base import Body, Cursor, KeyName, Limit, Long, Moment, Out, Query
from app.api.schemas.events import EventsByKey


class Send(Body):
    """A message that is to be sent."""

    topic: Annotated[KeyName, Field(description="What the workflow receives it by.")]
    payload: Annotated[Any, Field(description="Any JSON value.")]


class MessagesQuery(Query):
    topic: Annotated[KeyName | None, Field(description="Only this topic.")] = None
    limit: Limit = 100
    cursor: Cursor = None


class Message(Out):
    """What was sent to a workflow."""

    id: str
    workflow_id: str
    topic: str
    payload: Any
    position: Annotated[Long, Field(description="Counts the messages of the workflow from 1.")]
    event_position: Annotated[Long, Field(description="The workflow's last event when this was accepted.")]
    sent_at: Moment
    received_at: Moment | None


class SentMessage(Message):
    """A message, and the events that the request waited for."""

    events: Annotated[EventsByKey, Field(default_factory=dict, description="Present with `wait_for`.")]


class MessagePage(Out):
    messages: list[Message]
    next_cursor: str | None
