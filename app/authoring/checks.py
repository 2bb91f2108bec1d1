"""What authors hand to durable calls, judged at the call: every context does it by these."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

from app import names
from app.errors import AuthoringError, WorkflowNotFound

# What PostgreSQL can hold as text, and no longer than any id is.
_ANY_ID = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,300}")

TEN_YEARS = 10 * 366 * 86_400.0


def event_key(key: str) -> str:
    """A key that an author may set."""
    topic(key, "The event key")
    if key.startswith(names.RESERVED_KEY_PREFIX):
        raise AuthoringError(f"The event key {key!r} begins with $, as the service's own do: choose another.")
    return key


def topic(text: Any, what: str = "The topic") -> str:
    """A topic, or a key that is only read."""
    if not isinstance(text, str):
        raise AuthoringError(f"{what} is a {type(text).__name__}, not text.")
    try:
        names.check_key(text)
    except ValueError as error:
        raise AuthoringError(f"{what} {text[:100]!r} is not a good one: {error}.") from None
    return str(text)


def workflow_id(text: Any) -> str:
    """An id that an author gives to a child."""
    if not isinstance(text, str):
        raise AuthoringError(f"The id of a workflow is a {type(text).__name__}, not text.")
    try:
        names.check_workflow_id(text)
    except ValueError as error:
        raise AuthoringError(f"The id {text[:100]!r} is not a good one: {error}.") from None
    return str(text)


def other_workflow(text: Any) -> str:
    """The id of a workflow that there may be; raises WorkflowNotFound where none can have it."""
    if not isinstance(text, str) or not _ANY_ID.fullmatch(text):
        raise WorkflowNotFound(f"There is no workflow with the id {str(text)[:100]!r}: none can have it.")
    return str(text)


def seconds(number: Any, what: str) -> float:
    """A time span: a finite number of seconds, from 0 to ten years."""
    good = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
    if not good or not 0 <= number <= TEN_YEARS:
        raise AuthoringError(f"{what} is {number!r}: a number of seconds from 0 to ten years is needed.")
    return float(number)


def timeout(number: float | None) -> float | None:
    return None if number is None else seconds(number, "The timeout")


def point_in_time(when: Any) -> datetime:
    """A point in time, which has no meaning without its zone."""
    if not isinstance(when, datetime) or when.tzinfo is None or when.utcoffset() is None:
        raise AuthoringError(f"{when!r} is not a point in time: give a datetime with a time zone, such as UTC.")
    moment: datetime = when
    return moment
