"""What this service can run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.api import paging, render
from app.api.access import needs
from app.api.request import Request
from app.api.responses import LINK, answers, refusals
from app.api.route import Route
from app.api.schemas import definitions as schemas
from app.api.schemas.base import DefinitionPath
from app.authoring.definitions import Definition
from app.errors import DefinitionNotFound
from app.keys import Scope

router = APIRouter(route_class=Route, tags=["definitions"])


@router.get(
    "/definitions",
    responses=answers({200: (schemas.DefinitionPage, "A page of definitions.", (LINK,))}) | refusals(422),
)
@needs(Scope.READ)
async def list_definitions(request: Request, query: Annotated[schemas.DefinitionsQuery, Query()]) -> Response:
    """List the registered workflows by name, the newest version of each first."""
    page = paging.begin(request.raw_path, query, query.cursor)
    definitions = list(request.runtime.registry)
    begin = page.position or 0
    end = begin + page.query.limit
    cursor = page.cursor(end) if end < len(definitions) else None
    return render.respond(
        render.page("definitions", (_text(request, item) for item in definitions[begin:end]), cursor),
        headers=page.link(cursor),
    )


@router.get(
    "/definitions/{name}",
    responses=answers({200: (schemas.Definition, "Its newest version.", ())}) | refusals(404, 422),
)
@needs(Scope.READ)
async def get_definition(request: Request, name: DefinitionPath) -> Response:
    """Read the newest version of one registered workflow."""
    definition = request.runtime.registry.newest(name)
    if definition is None:
        raise DefinitionNotFound
    return render.respond(_text(request, definition))


def _text(request: Request, definition: Definition) -> str:
    """Schemas take a while to make, so each definition is described once."""
    described: dict[tuple[str, str], str] = request.app.described
    version = (definition.name, definition.version)
    if version not in described:
        described[version] = _described(definition)
    return described[version]


def _described(definition: Definition) -> str:
    return render.quote(
        {
            "name": definition.name,
            "version": definition.version,
            "description": definition.description,
            "input_schema": definition.input.schema("validation") if definition.input else None,
            "output_schema": definition.output.schema("serialization"),
            "events": {key: codec.schema("serialization") for key, codec in definition.events.items()},
            "queue": None,
            "timeout": definition.timeout,
        }
    )
