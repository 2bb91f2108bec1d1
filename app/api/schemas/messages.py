"""Messages."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from app.api.schemas.base import Body, Cursor, KeyName, Limit, Moment, Out, Query
from app.api.schemas.events import Event


class Send(Body):
    topic: Annotated[KeyName, Field(description="What the workflow receives it by.")]
    payload: Annotated[Any, Field(description="Any JSON value.")]


class MessagesQuery(Query):
    topic: Annotated[KeyName | None, Field(description="Only this topic.")] = None
    limit: Limit = 100
    cursor: Cursor = None


class Message(Out):
    id: str
    workflow_id: str
    topic: str
    payload: Any
    position: Annotated[int, Field(description="Counts the messages of the workflow from 1.")]
    event_position: Annotated[int, Field(description="The workflow's last event when this was accepted.")]
    sent_at: Moment
    received_at: Moment | None


class SentMessage(Message):
    """A message, and the events that the request waited for."""

    events: Annotated[dict[str, Event], Field(default_factory=dict, description="Present with `wait_for`.")]


class Messages(Out):
    messages: list[Message]
    next_cursor: str | None
