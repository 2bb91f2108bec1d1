"""Reading events: one key by long poll, the board, the log, and the log as a stream."""

from __future__ import annotations

import re
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from app.api import etags, paging, render
from app.api.access import needs
from app.api.request import Request
from app.api.responses import ETAG, LINK, RETRY_AFTER, UNBUFFERED, WORKFLOW_STATUS, answers, headers, refusals
from app.api.route import Route
from app.api.schemas import events as schemas
from app.api.schemas.base import LARGEST_POSITION, EventKeyPath, Mode, WorkflowIdPath
from app.api.stream import EventStream
from app.api.waiting import attended, seat
from app.engine import views
from app.errors import EventNeverSet, Fault, InvalidCursor, InvalidRequest
from app.keys import Scope
from app.model import JsonText, Status, WorkflowId

router = APIRouter(route_class=Route, tags=["events"])

CACHEABLE = {"Cache-Control": "private, no-cache"}

LAST_EVENT_ID = r"(0|[1-9][0-9]{0,15})(\.end)?"
_last_event_id = re.compile(LAST_EVENT_ID).fullmatch


@router.get(
    "/workflows/{id}/events/{key}",
    responses=answers(
        {
            200: (schemas.SetEvent, "It is set.", (WORKFLOW_STATUS, ETAG)),
            202: (schemas.PendingEvent, "It is not set yet, or to nothing newer.", (WORKFLOW_STATUS, RETRY_AFTER)),
            304: (None, "There is nothing newer than If-None-Match names.", (WORKFLOW_STATUS, ETAG)),
        }
    )
    | refusals(404, 410, 422, 503),
)
@needs(Scope.READ)
async def get_event(
    request: Request,
    workflow_id: WorkflowIdPath,
    key: EventKeyPath,
    query: Annotated[schemas.EventQuery, Query()],
    if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="ETags of earlier answers: ask for something newer.")
    ] = None,
) -> Response:
    """Read an event; wait for it when it is not set yet."""
    timeout = request.patience(query.timeout)
    with seat(request, timeout):
        if if_none_match is None:
            wait = request.runtime.views.event(workflow_id, key, after=query.after, timeout=timeout)
            reading = await attended(request, wait, timeout)
            return _answer(reading, key, query.after)
        seen = etags.seen(if_none_match)
        reading, after = await _newer(request, workflow_id, key, after=query.after, seen=seen, timeout=timeout)
        return _answer(reading, key, after, conditional=reading.run in seen)


async def _newer(
    request: Request, workflow_id: WorkflowId, key: str, *, after: int, seen: dict[str, int], timeout: float
) -> tuple[views.Reading, int]:
    """Wait for what is newer than the tags of the workflow's present run; the first look tells which run that is."""
    until = monotonic() + timeout
    reading = await request.runtime.views.event(workflow_id, key, after=after, timeout=0)
    while True:
        run, least = reading.run, max(after, seen.get(reading.run, 0))
        left = until - monotonic()
        if left <= 0 or render.state(reading.events[key], least, reading.status) != "pending":
            return reading, least
        wait = request.runtime.views.event(workflow_id, key, after=least, timeout=left)
        reading = await attended(request, wait, left)
        if reading.run == run:
            return reading, least


def _answer(reading: views.Reading, key: str, after: int, *, conditional: bool = False) -> Response:
    found, status = reading.events[key], reading.status
    state = render.state(found, after, status)
    if state == "set" or conditional:
        caching = {"ETag": etags.tag(reading.run, found.position if found else 0), **CACHEABLE}
        if state != "set":
            return Response(status_code=304, headers={**caching, "Workflow-Status": status})
        text = render.event(reading.workflow_id, key, found, status)
        return render.respond(text, 200, workflow_status=status, headers=caching)
    if state == "never":
        raise _never(
            f"The workflow has ended without setting {key!r}{' again' if found else ''}.", status, reading.error
        )
    return render.respond(render.event(reading.workflow_id, key, found, status, state), 202, workflow_status=status)


def _never(detail: str, status: Status, error: JsonText | None, events: render.Json | None = None) -> EventNeverSet:
    extra: dict[str, object] = {"workflow_status": status}
    if error is not None:
        extra |= {"error": render.Json(error)}
    if events is not None:
        extra |= {"events": events}
    return EventNeverSet(detail, **extra)


@router.get(
    "/workflows/{id}/events",
    responses=answers(
        {
            200: (schemas.EventPage, "The board, or the named keys as far as asked for.", (WORKFLOW_STATUS, LINK)),
            202: (schemas.EventPage, "The named keys are not set yet.", (WORKFLOW_STATUS, RETRY_AFTER)),
        }
    )
    | refusals(404, 410, 422, 503),
)
@needs(Scope.READ)
async def list_events(
    request: Request, workflow_id: WorkflowIdPath, query: Annotated[schemas.BoardQuery, Query()]
) -> Response:
    """The board: the current value of every key, by key. Or, with `key`, a wait for several keys at once."""
    if query.key:
        return await _several(request, workflow_id, query)
    page = paging.begin(request.raw_path, query, query.cursor)
    log = await request.runtime.views.board(workflow_id, after_key=page.position, limit=page.query.limit)
    cursor = page.cursor(log.events[-1].key) if log.more else None
    return _log(workflow_id, log, log.position, cursor, page.link(cursor))


async def _several(request: Request, workflow_id: WorkflowId, query: schemas.BoardQuery) -> Response:
    if query.cursor is not None:
        raise InvalidCursor(Fault("named keys come on one page", parameter="cursor"))
    keys = list(dict.fromkeys(query.key))
    timeout = request.patience(query.timeout)
    with seat(request, timeout):
        mode = views.Mode(query.mode)
        wait = request.runtime.views.events(workflow_id, keys, mode=mode, after=query.after, timeout=timeout)
        reading = await attended(request, wait, timeout)
    status = reading.status
    states = {key: render.state(reading.events[key], query.after, status) for key in keys}
    items = [render.event(workflow_id, key, reading.events[key], status, state) for key, state in states.items()]
    decide, enough = (any, "set") if query.mode is Mode.ANY else (all, "set")
    if decide(state == enough for state in states.values()):
        code = 200
    elif "never" in states.values():
        raise _never("The workflow has ended without these events.", status, reading.error, render.array(items))
    else:
        code = 202
    text = render.events(items, position=reading.position, status=status)
    return render.respond(text, code, workflow_status=status)


@router.get(
    "/workflows/{id}/history",
    responses=answers({200: (schemas.EventPage, "A part of the log, perhaps empty.", (WORKFLOW_STATUS, LINK))})
    | refusals(404, 422, 503),
)
@needs(Scope.READ)
async def get_history(
    request: Request, workflow_id: WorkflowIdPath, query: Annotated[schemas.HistoryQuery, Query()]
) -> Response:
    """The log of all sets, in their order, from after a position; waits up to `timeout` while there is none.

    `position` is the `after` of the next call. All is read when `events` is empty and the status is terminal.
    """
    page = paging.begin(request.raw_path, query, query.cursor)
    timeout = request.patience(query.timeout)
    after = page.query.after if page.position is None else page.position
    with seat(request, timeout):
        wait = request.runtime.views.history(
            workflow_id, after=after, keys=page.query.key, limit=page.query.limit, timeout=timeout
        )
        log = await attended(request, wait, timeout)
    position = log.events[-1].position if log.more else log.position
    cursor = page.cursor(position) if log.more else None
    return _log(workflow_id, log, position, cursor, page.link(cursor))


def _log(workflow_id: WorkflowId, log: views.Log, position: int, cursor: str | None, link: dict[str, str]) -> Response:
    items = (render.event(workflow_id, event.key, event, log.status) for event in log.events)
    text = render.events(items, position=position, status=log.status, cursor=cursor)
    return render.respond(text, workflow_status=log.status, headers=link)


@router.get(
    "/workflows/{id}/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": (
                "Server-sent events: `id` is the position, `event` the key, `data` an Event as JSON. After the end of"
                " the workflow comes `event: $end` with the Workflow, and the stream is closed."
            ),
            "headers": headers(WORKFLOW_STATUS, UNBUFFERED),
        },
    }
    | answers({204: (None, "All was sent before: Last-Event-ID is that of the end.", (WORKFLOW_STATUS,))})
    | refusals(404, 422, 503),
)
@needs(Scope.READ)
async def stream_events(
    request: Request,
    workflow_id: WorkflowIdPath,
    query: Annotated[schemas.StreamQuery, Query()],
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Where an earlier stream broke off; wins over `after`.",
            json_schema_extra={"pattern": f"^{LAST_EVENT_ID}$"},
        ),
    ] = None,
) -> Response:
    """The log as server-sent events, for as long as the workflow goes on."""
    after, ended = _resumption(last_event_id, query.after)
    log = await request.runtime.views.history(workflow_id, after=after, keys=query.key, limit=1, timeout=0)
    if ended and log.status.terminal and not log.events:
        return Response(status_code=204, headers={"Workflow-Status": log.status})
    return EventStream(request, workflow_id, after, query, log.status)


def _resumption(last_event_id: str | None, after: int) -> tuple[int, bool]:
    """Where to go on, and whether the end was seen."""
    if last_event_id is None:
        return after, False
    found = _last_event_id(last_event_id)
    if found is None or int(found[1]) > LARGEST_POSITION:
        raise InvalidRequest(Fault("this is no id of this stream", parameter="Last-Event-ID"))
    return int(found[1]), found[2] is not None
