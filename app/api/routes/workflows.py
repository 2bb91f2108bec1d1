"""Starting, reading, listing and steering workflows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query
from pydantic import Field
from starlette.responses import Response

from app import names
from app.api import paging, render
from app.api.access import needs
from app.api.request import Request
from app.api.responses import (
    LINK,
    LOCATION,
    RETRY_AFTER,
    WORKFLOW_STATUS,
    answers,
    refusals,
)
from app.api.route import Route
from app.api.schemas import workflows as schemas
from app.api.schemas.base import WorkflowIdPath
from app.api.waiting import Wait, attended, seat
from app.engine.commands import Start
from app.keys import Scope
from app.model import WorkflowId
from app.store.workflows import Filter

router = APIRouter(route_class=Route, tags=["workflows"])

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="Makes a repeat of this request harmless."),
    Field(pattern=f"^{names.IDEMPOTENCY_KEY}$"),
]


@router.post(
    "/workflows",
    status_code=201,
    responses=answers(
        {
            201: (schemas.StartedWorkflow, "Started: it is committed, and will run.", (LOCATION, WORKFLOW_STATUS)),
            200: (schemas.StartedWorkflow, "Started before with this name and input.", (LOCATION, WORKFLOW_STATUS)),
        }
    )
    | refusals(400, 403, 404, 409, 413, 415, 422, 503),
)
@needs(Scope.WRITE)
async def start_workflow(
    request: Request,
    body: Annotated[schemas.Start, Body()],
    query: Annotated[schemas.StartQuery, Query()],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a workflow, and perhaps wait for events of it or for its end.

    Safe to repeat when it has an id or an Idempotency-Key: the same start again answers 200 with the workflow
    that there is. The status never depends on what the wait brought.
    """
    wait = Wait(request, query.wait_for, query.mode, query.timeout, result=query.wait_for_result)
    start = await _start(request, body, idempotency_key)
    with seat(request, wait.seconds), request.runtime.views.watch(query.wait_for) as watch:
        started = await request.runtime.commands.start(start, watch.begin if query.wait_for else None)
        workflow, events = await wait.after_start(started, watch)
    return render.respond(
        render.workflow(workflow, more=events),
        201 if started.created else 200,
        workflow_status=workflow.status,
        headers={"Location": f"/workflows/{workflow.id}"},
    )


async def _start(request: Request, body: schemas.Start, idempotency_key: str | None) -> Start:
    text, digest = (None, None) if body.input is None else await request.text_and_digest(body.input, "/input")
    return Start(
        name=body.name,
        input=text,
        digest=digest,
        id=None if body.id is None else WorkflowId(body.id),
        queue=body.queue,
        priority=body.priority or 0,
        partition=body.partition,
        deduplication_id=body.deduplication_id,
        delay=body.delay or 0.0,
        timeout=body.timeout,
        tags=body.tags or {},
        traceparent=request.traceparent,
        idempotency_key=idempotency_key,
    )


@router.get(
    "/workflows",
    responses=answers({200: (schemas.WorkflowPage, "A page of workflows.", (LINK,))}) | refusals(422, 503),
)
@needs(Scope.READ)
async def list_workflows(request: Request, query: Annotated[schemas.ListQuery, Query()]) -> Response:
    """List workflows by time of creation. A page may be short, even empty; only `next_cursor: null` is the end."""
    page = paging.begin(request.raw_path, query, query.cursor)
    include = frozenset(page.query.include.split(",") if page.query.include else ())
    after = None if page.position is None else (datetime.fromisoformat(page.position[0]), page.position[1])
    found, follows = await request.runtime.views.workflows(
        _filter(page.query), after=after, limit=page.query.limit, include=include
    )
    cursor = None if follows is None else page.cursor([follows[0].isoformat(), follows[1]])
    return render.respond(
        render.page("workflows", (render.workflow(item, include) for item in found), cursor),
        headers=page.link(cursor),
    )


def _filter(query: schemas.ListQuery) -> Filter:
    return Filter(
        name=tuple(query.name),
        status=tuple(query.status),
        queue=tuple(query.queue),
        parent_id=tuple(query.parent_id),
        forked_from=tuple(query.forked_from),
        schedule=tuple(query.schedule),
        id_prefix=query.id_prefix,
        tags=dict(query.tag),
        created_after=query.created_after,
        created_before=query.created_before,
        completed_after=query.completed_after,
        completed_before=query.completed_before,
        ascending=query.order == "asc",
    )


@router.get(
    "/workflows/{id}",
    responses=answers({200: (schemas.Workflow, "The workflow.", (WORKFLOW_STATUS,))}) | refusals(404, 422, 503),
)
@needs(Scope.READ)
async def get_workflow(request: Request, workflow_id: WorkflowIdPath) -> Response:
    """Read one workflow."""
    workflow = await request.runtime.views.workflow(workflow_id)
    return render.respond(render.workflow(workflow), workflow_status=workflow.status)


@router.delete(
    "/workflows/{id}",
    status_code=204,
    responses=answers({204: (None, "Deleted, with everything under it.", ())}) | refusals(403, 404, 409, 422, 503),
)
@needs(Scope.WRITE)
async def delete_workflow(request: Request, workflow_id: WorkflowIdPath) -> Response:
    """Delete a workflow that has ended. Its id is free again."""
    await request.runtime.commands.delete(workflow_id)
    return Response(status_code=204)


@router.get(
    "/workflows/{id}/result",
    responses=answers(
        {
            200: (schemas.Workflow, "It has ended, in whatever way.", (WORKFLOW_STATUS,)),
            202: (schemas.Workflow, "It has not ended within the time.", (WORKFLOW_STATUS, RETRY_AFTER)),
        }
    )
    | refusals(404, 422, 503),
)
@needs(Scope.READ)
async def get_result(
    request: Request, workflow_id: WorkflowIdPath, query: Annotated[schemas.ResultQuery, Query()]
) -> Response:
    """Wait for the end of a workflow. That it failed is data here, not an HTTP error."""
    timeout = request.patience(query.timeout)
    with seat(request, timeout):
        workflow = await attended(request, request.runtime.views.result(workflow_id, timeout), timeout)
    status = 200 if workflow.status.terminal else 202
    return render.respond(render.workflow(workflow), status, workflow_status=workflow.status)


@router.get(
    "/workflows/{id}/steps",
    responses=answers({200: (schemas.StepPage, "A page of steps.", (WORKFLOW_STATUS, LINK))}) | refusals(404, 422, 503),
)
@needs(Scope.READ)
async def list_steps(
    request: Request, workflow_id: WorkflowIdPath, query: Annotated[schemas.StepsQuery, Query()]
) -> Response:
    """List the recorded steps of a workflow in the order in which it called them."""
    page = paging.begin(request.raw_path, query, query.cursor)
    workflow = await request.runtime.views.workflow(workflow_id)
    found, more = await request.runtime.views.steps(workflow_id, after=page.position or 0, limit=page.query.limit)
    cursor = page.cursor(found[-1].seq) if more else None
    return render.respond(
        render.page("steps", map(render.step, found), cursor),
        workflow_status=workflow.status,
        headers=page.link(cursor),
    )


@router.post(
    "/workflows/{id}/cancel",
    responses=answers({200: (schemas.Workflow, "It is CANCELLED.", (WORKFLOW_STATUS,))})
    | refusals(403, 404, 409, 422, 503),
)
@needs(Scope.WRITE)
async def cancel_workflow(
    request: Request, workflow_id: WorkflowIdPath, query: Annotated[schemas.CancelQuery, Query()]
) -> Response:
    """Cancel a workflow, and its children. Nothing of it is committed afterwards."""
    workflow = await request.runtime.commands.cancel(workflow_id, children=query.children)
    return render.respond(render.workflow(workflow), workflow_status=workflow.status)


@router.post(
    "/workflows/{id}/resume",
    responses=answers({200: (schemas.Workflow, "It goes on.", (WORKFLOW_STATUS,))}) | refusals(403, 404, 409, 422, 503),
)
@needs(Scope.WRITE)
async def resume_workflow(request: Request, workflow_id: WorkflowIdPath) -> Response:
    """Have a workflow go on from its last recorded step, or drop its delay."""
    workflow = await request.runtime.commands.resume(workflow_id)
    return render.respond(render.workflow(workflow), workflow_status=workflow.status)
