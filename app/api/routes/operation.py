"""Probes, the document and the pages about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import HTMLResponse, Response

from app.api import pages, problems, render
from app.api.access import needs
from app.api.request import Request
from app.api.responses import POLICY, Responses, answers, headers, refusals
from app.api.route import LooseRoute
from app.api.schemas.operation import Health
from app.errors import RouteNotFound, known

probes = APIRouter(route_class=LooseRoute, tags=["operation"])
router = APIRouter(route_class=LooseRoute, tags=["operation"])

_PAGE: Responses = {200: {"description": "A page.", "headers": headers(POLICY)}}
_DOCUMENT: Responses = {
    200: {
        "description": "This document.",
        "headers": headers(),
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


@probes.get("/healthz", responses=answers({200: (Health, "The process runs its loop.", ())}) | refusals())
@needs(None)
async def get_health(request: Request) -> Response:
    """Whether the process is alive."""
    return render.respond('{"status":"ok"}')


@probes.get("/readyz", responses=answers({200: (Health, "It can take requests.", ())}) | refusals(503))
@needs(None)
async def get_readiness(request: Request) -> Response:
    """Whether requests should be sent here: the database answers writes, and the process is not shutting down."""
    await request.runtime.ready()
    return render.respond('{"status":"ok"}')


@probes.get("/problems/{code}", response_class=HTMLResponse, responses=_PAGE | refusals(404, 422))
@needs(None)
async def explain_problem(
    request: Request, code: Annotated[str, Path(description="The code of a problem.")]
) -> Response:
    """What a problem means."""
    kind = known().get(code)
    if kind is None:
        raise RouteNotFound
    return problems.explanation(kind)


@router.get("/docs", response_class=HTMLResponse, responses=_PAGE | refusals())
@needs(None)
async def get_docs(request: Request) -> Response:
    """The operations on one page, for people."""
    return pages.docs(request.app.document)


@router.get(
    "/openapi.json",
    responses=_DOCUMENT | refusals(),
)
@needs(None)
async def get_openapi(request: Request) -> Response:
    """The description of this service in OpenAPI 3.1, with the workflows that it has."""
    return render.respond(render.quote(request.app.document))


@router.get("/openapi-3.0.json", responses=_DOCUMENT | refusals())
@needs(None)
async def get_openapi_3_0(request: Request) -> Response:
    """The same description in OpenAPI 3.0, for generators of clients that don't read 3.1."""
    return render.respond(render.quote(request.app.older_document))
