"""Messages to workflows, and the callbacks of parties that know nothing of workflows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from starlette.responses import Response

from app.api import paging, render
from app.api.access import needs
from app.api.request import Request
from app.api.responses import LINK, WORKFLOW_STATUS, answers, refusals
from app.api.route import LooseRoute, Route
from app.api.routes.workflows import IdempotencyKey
from app.api.schemas import messages as schemas
from app.api.schemas.base import WorkflowIdPath
from app.api.schemas.workflows import Waits
from app.api.waiting import Wait, seat
from app.keys import Scope

router = APIRouter(route_class=Route, tags=["messages"])
callbacks = APIRouter(route_class=LooseRoute, tags=["callbacks"])


@router.post(
    "/workflows/{id}/messages",
    status_code=201,
    responses=answers(
        {
            201: (schemas.SentMessage, "Sent: it is committed.", (WORKFLOW_STATUS,)),
            200: (schemas.SentMessage, "Sent before under this Idempotency-Key.", (WORKFLOW_STATUS,)),
        }
    )
    | refusals(403, 404, 409, 413, 415, 422, 503),
)
@needs(Scope.WRITE)
async def send_message(
    request: Request,
    workflow_id: WorkflowIdPath,
    body: Annotated[schemas.Send, Body()],
    query: Annotated[Waits, Query()],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send a message to a workflow, and perhaps wait for an event that it sets afterwards."""
    payload = await request.text(body.payload, "/payload")
    wait = Wait(request, query.wait_for, query.mode, query.timeout)
    with seat(request, wait.seconds):
        sent = await request.runtime.commands.send(workflow_id, body.topic, payload, idempotency_key)
        events, status = await wait.after_send(sent.message)
    text = render.message(sent.message, more=events)
    return render.respond(text, 201 if sent.created else 200, workflow_status=status)


@router.get(
    "/workflows/{id}/messages",
    responses=answers({200: (schemas.MessagePage, "A page of messages.", (WORKFLOW_STATUS, LINK))})
    | refusals(404, 422, 503),
)
@needs(Scope.READ)
async def list_messages(
    request: Request, workflow_id: WorkflowIdPath, query: Annotated[schemas.MessagesQuery, Query()]
) -> Response:
    """List what was sent to a workflow, in order."""
    page = paging.begin(request.raw_path, query, query.cursor)
    workflow = await request.runtime.views.workflow(workflow_id)
    found, more = await request.runtime.views.messages(
        workflow_id, topic=page.query.topic, after=page.position or 0, limit=page.query.limit
    )
    cursor = page.cursor(found[-1].position) if more else None
    return render.respond(
        render.page("messages", map(render.message, found), cursor),
        workflow_status=workflow.status,
        headers=page.link(cursor),
    )


@callbacks.post(
    "/callbacks/{token}",
    status_code=204,
    responses=answers({204: (None, "Taken, now or before.", ())}) | refusals(404, 409, 413, 415, 422, 503),
)
@needs(None)
async def complete_callback(
    request: Request,
    token: Annotated[str, Path(description="The callback's secret, as in the URL that the workflow made.")],
    payload: Annotated[Any, Body(description="Any JSON value.")],
) -> Response:
    """Complete a callback: its payload becomes a message to the workflow that made it."""
    await request.runtime.commands.complete_callback(token, await request.text(payload))
    return Response(status_code=204)
