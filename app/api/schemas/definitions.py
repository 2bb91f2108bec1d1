"""Definitions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypeAliasType

from app.api.schemas.base import Cursor, Limit, Out, Query


class DefinitionsQuery(Query):
    limit: Limit = 100
    cursor: Cursor = None


JsonSchema = TypeAliasType("JsonSchema", Annotated[dict[str, Any], Field(description="JSON Schema 2020-12.")])


class Definition(Out):
    """A registered workflow function."""

    name: str
    version: str
    description: str
    input_schema: Annotated[JsonSchema | None, Field(description="null: it takes no input.")]
    output_schema: JsonSchema
    events: Annotated[dict[str, JsonSchema], Field(description="The types of its event keys.")]
    queue: str | None
    timeout: Annotated[float | None, Field(description="Seconds from the first run to the end.")]


class DefinitionPage(Out):
    definitions: list[Definition]
    next_cursor: str | None
