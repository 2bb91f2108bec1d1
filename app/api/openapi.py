"""The description of the service in OpenAPI 3.1, written from the code and from the registered workflows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from app.api import access, responses
from app.api.components import Components
from app.api.schemas.problems import PROBLEMS
from app.authoring.definitions import Definition, Registry
from app.errors import InvalidInput
from app.release import VERSION

DESCRIPTION = """\
Durable workflows over HTTP: start one, read its events by long poll, send it messages; it survives crashes.

Values (inputs, outputs, event values, payloads) are any JSON of at most 1 MiB, and come back equal. Refusals are
problem documents (RFC 9457), told apart by their `code`. Times are RFC 3339 in UTC, durations are seconds. Every
GET can be asked with HEAD, which does not wait."""
KEYS = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `Authorization: Bearer mp_…`. Each operation names the scope that it needs: `read`,"
    " `write` which includes it, or `admin` which includes both. A service that has no keys asks for none.",
}
_VALUES = frozenset({"const", "default", "enum", "example", "examples"})
_MAPS = frozenset({"properties", "mapping"})
TAGS = [
    {"name": "workflows", "description": "Starting, reading, listing and steering workflows."},
    {"name": "events", "description": "What workflows publish: read by long poll, as a board, a log or a stream."},
    {"name": "messages", "description": "What is sent to workflows."},
    {"name": "definitions", "description": "What this service can run."},
    {"name": "operation", "description": "Probes and documents."},
]


def document(registry: Registry) -> dict[str, Any]:
    """The document of a service that has these workflows."""
    from app.api import router  # it reads the document's parts for its answers

    return describe(router.routes(), registry)


def dumps(described: dict[str, Any]) -> str:
    """The text of the file: the same for the same document."""
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def describe(routes: Sequence[BaseRoute], registry: Registry) -> dict[str, Any]:
    described: dict[str, Any] = get_openapi(
        title="Milepost",
        version=VERSION,
        description=DESCRIPTION,
        routes=routes,
        servers=[{"url": "/", "description": "The service that serves this document."}],
        tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    described["security"] = []
    described["components"]["securitySchemes"] = {access.SCHEME: KEYS}
    components = Components(described["components"]["schemas"])
    _, schema = models_json_schema(
        [(answer.model, "serialization") for answer in PROBLEMS.values()],
        ref_template="#/components/schemas/{model}",
    )
    components.update(schema["$defs"])
    _type_the_start(described, registry, components)
    described["components"]["schemas"] = components.sorted()
    described["components"]["responses"] = responses.components()
    described["components"]["headers"] = responses.header_components()
    for operation in (operation for path in described["paths"].values() for operation in path.values()):
        _tell_of_keys(operation)
        _tidy_operation(operation)
    described["paths"] = _tidy(described["paths"])
    described["components"]["schemas"] = {n: _tidy(s) for n, s in described["components"]["schemas"].items()}
    return described


def _type_the_start(described: dict[str, Any], registry: Registry, components: Components) -> None:
    """A start's body as a union by name, with the input that each workflow takes."""
    newest = [definition for name in registry.names() if (definition := registry.newest(name))]
    if not newest:
        return
    references = {definition.name: _start(definition, components) for definition in newest}
    described["paths"]["/workflows"]["post"]["requestBody"]["content"]["application/json"]["schema"] = {
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "name", "mapping": references},
    }
    components.discard("Start")


def _start(definition: Definition, components: Components) -> str:
    prefix = components.prefix(definition.name)
    envelope = components.get("Start")
    if definition.input is None:
        taken: dict[str, Any] = {"type": "null", "description": "This workflow takes no input."}
    else:
        taken = {"$ref": components.add(f"{prefix}Input", definition.input.schema("validation"))}
    components.add(f"{prefix}Output", definition.output.schema("serialization"))
    if definition.events:
        components.add_object(
            f"{prefix}Events",
            {key: codec.schema("serialization") for key, codec in sorted(definition.events.items())},
            description=f"The types of what {definition.name} publishes, by key.",
        )
    return components.add(
        f"{prefix}Start",
        {
            "type": "object",
            "description": definition.description or f"Starts {definition.name}.",
            "properties": {
                **envelope["properties"],
                "name": {"type": "string", "const": definition.name},
                "input": taken,
            },
            "required": ["name"] if _may_be_left_out(definition) else ["name", "input"],
            "additionalProperties": False,
        },
    )


def _may_be_left_out(definition: Definition) -> bool:
    try:
        definition.arguments(None)
    except InvalidInput:
        return False
    return True


def _tell_of_keys(operation: dict[str, Any]) -> None:
    """An operation that needs a key may refuse for want of it."""
    if not operation["security"]:
        return
    told = {str(status): answer for status, answer in responses.refusals(401, 403).items()} | operation["responses"]
    refused = sorted(status for status in told if status >= "400")
    kept = [status for status in told if status < "400"]
    operation["responses"] = {status: told[status] for status in (*kept, *refused)}


def _tidy_operation(operation: dict[str, Any]) -> None:
    """What FastAPI adds that says nothing, or what isn't so."""
    for answer in operation["responses"].values():
        if "$ref" in answer:
            answer.pop("description", None)
    for parameter in operation.get("parameters", []):
        # A parameter may be left out; null can't be sent.
        choices = parameter["schema"].pop("anyOf", [])
        parameter["schema"] |= next((choice for choice in choices if choice != {"type": "null"}), {})
        parameter["schema"].pop("description", None)


def _tidy(node: Any, *, names: bool = False) -> Any:
    """Without titles that are only the names again. `names`: the members of this one are named by authors."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        # The framework writes bounds as doubles.
        return int(node) if isinstance(node, float) and node.is_integer() else node
    return {
        name: child if name in _VALUES and not names else _tidy(child, names=not names and name in _MAPS)
        for name, child in node.items()
        if names or name != "title"
    }
