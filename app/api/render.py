"""Answers as JSON text. Stored values are text already and are put in as they are, never decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.http.exchange import WHOLE
from app.model import Event, Message, Status, Step, Workflow

quote = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""JSON text of what the service itself says: strings, numbers, null, lists and objects of these."""

EVERYTHING = frozenset({"input", "output", "error"})
_TIME = '"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ"'


class Json(str):
    """Text that is JSON already."""

    __slots__ = ()


class Rendered(Response):
    """An answer whose headers are given as they are sent."""

    def __init__(self, body: bytes, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.body, self.status_code, self.raw_headers, self.background = body, status, headers, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if WHOLE in scope.get("extensions", ()):
            message = {"type": WHOLE, "status": self.status_code, "headers": self.raw_headers, "body": self.body}
            await send(message)
        else:
            await super().__call__(scope, receive, send)


def respond(
    text: str,
    status: int = 200,
    *,
    workflow_status: Status | None = None,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    body = text.encode()
    fields = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
    if workflow_status is not None:
        fields.append((b"workflow-status", workflow_status.encode()))
    if headers:
        fields += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    if status in (202, 503):
        fields.append((b"retry-after", b"1"))
    return Rendered(body, status, fields)


class _Times:
    """Writes times. The last one is kept: what was committed together has the same one."""

    def __init__(self) -> None:
        self._last: datetime | None = None
        self._text = ""

    def __call__(self, moment: datetime | None) -> str:
        if moment is None:
            return "null"
        if moment is not self._last:
            self._last, self._text = moment, self._write(moment)
        return self._text

    def _write(self, moment: datetime) -> str:
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC)
        # Twice as fast as isoformat(), which has to ask for the offset.
        return _TIME % (
            moment.year,
            moment.month,
            moment.day,
            moment.hour,
            moment.minute,
            moment.second,
            moment.microsecond,
        )


time = _Times()


def array(items: Iterable[str]) -> Json:
    return Json(f"[{','.join(items)}]")


def text(value: str | None) -> str:
    return "null" if value is None else quote(value)


def workflow(item: Workflow, include: frozenset[str] = EVERYTHING, *, more: str = "") -> str:
    """`more` is the text of further members, each after a comma."""
    # All of it is put together once, with values that may be large.
    pieces = [f'{{"id":"{item.id}","name":"{item.name}","version":"{item.version}","status":"{item.status}",']
    for name, value in (("input", item.input), ("output", item.output), ("error", item.error)):
        if name in include:
            pieces += (f'"{name}":', value or "null", ",")
    pieces.append(
        f'"tags":{item.tags},"queue":{text(item.queue)},"priority":{item.priority},'
        f'"partition":{text(item.partition)},"deduplication_id":{text(item.deduplication_id)},'
        f'"parent_id":{text(item.parent_id)},"forked_from":{text(item.forked_from)},'
        f'"schedule":{text(item.schedule)},"attempts":{item.attempts},'
        f'"created_at":{time(item.created_at)},"started_at":{time(item.started_at)},'
        f'"updated_at":{time(item.updated_at)},"completed_at":{time(item.completed_at)},'
        f'"deadline":{time(item.deadline)},"wake_at":{time(item.wake_at)}{more}}}'
    )
    return "".join(pieces)


def state(found: Event | None, after: int, status: Status) -> str:
    """Whether an event is set (at a later position than `after`), can still come, or can't."""
    if found is not None and found.position > after:
        return "set"
    return "never" if status.terminal else "pending"


def event(workflow_id: str, key: str, found: Event | None, status: Status, how: str = "set") -> str:
    value, position, set_at = ("null", 0, None) if found is None else (found.value, found.position, found.set_at)
    return (
        f'{{"workflow_id":"{workflow_id}","key":{quote(key)},"state":"{how}","value":{value},'
        f'"position":{position},"set_at":{time(set_at)},"workflow_status":"{status}"}}'
    )


def events(items: Iterable[str], *, position: int, status: Status, cursor: str | None = None) -> str:
    return (
        f'{{"events":{array(items)},"position":{position},"workflow_status":"{status}","next_cursor":{text(cursor)}}}'
    )


def message(item: Message, *, more: str = "") -> str:
    return (
        f'{{"id":{quote(item.id)},"workflow_id":"{item.workflow_id}","topic":{quote(item.topic)},'
        f'"payload":{item.payload},"position":{item.position},"event_position":{item.event_position},'
        f'"sent_at":{time(item.sent_at)},"received_at":{time(item.received_at)}{more}}}'
    )


def step(item: Step) -> str:
    return (
        f'{{"seq":{item.seq},"name":{quote(item.name)},"kind":"{item.kind}",'
        f'"status":"{"SUCCEEDED" if item.error is None else "FAILED"}","output":{item.output or "null"},'
        f'"error":{item.error or "null"},"attempts":{item.attempts},"started_at":{time(item.started_at)},'
        f'"completed_at":{time(item.completed_at)},"child_id":{text(item.child_id)}}}'
    )


def page(noun: str, items: Iterable[str], cursor: str | None) -> str:
    return f'{{"{noun}":{array(items)},"next_cursor":{text(cursor)}}}'


def members(items: Mapping[str, object]) -> str:
    """An object's members, each after a comma; `Json` goes in as it is."""
    return "".join(
        f",{quote(name)}:{value if isinstance(value, Json) else quote(value)}" for name, value in items.items()
    )
