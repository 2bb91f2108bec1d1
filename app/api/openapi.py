"""The description of the service in OpenAPI 3.1, written from the code and from the registered workflows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from app.api import access, examples, responses, typed
from app.api.components import Components
from app.api.schemas.problems import PROBLEMS
from app.authoring.definitions import Registry
from app.errors import known
from app.keys import Scope
from app.release import VERSION

DESCRIPTION = """\
Durable workflows over HTTP: start one, read its events by long poll, send it messages; it survives crashes.

Values (inputs, outputs, event values, payloads) are any JSON of at most 1 MiB, and come back equal. Refusals are
problem documents (RFC 9457), told apart by their `code`. Times are RFC 3339 in UTC, durations are seconds. Every
GET can be asked with HEAD, which does not wait."""
Described = dict[str, Any]

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
    {"name": "callbacks", "description": "How parties that know nothing of workflows answer them."},
    {"name": "definitions", "description": "What this service can run."},
    {"name": "operation", "description": "Probes and documents."},
]


def document(registry: Registry) -> Described:
    """The document of a service that has these workflows."""
    from app.api import router  # it reads the document's parts for its answers

    return describe(router.routes(), registry)


def operations(described: Described) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each."""
    for path, by_method in described["paths"].items():
        for method, operation in by_method.items():
            yield method, path, operation


def dumps(described: Described) -> str:
    """The text of the file: the same for the same document."""
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def describe(routes: Sequence[BaseRoute], registry: Registry) -> Described:
    described: Described = get_openapi(
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
    components.add("ProblemCode", {"type": "string", "enum": sorted(known())})
    typed.describe(described, registry, components)
    described["components"]["schemas"] = components.sorted()
    described["components"]["responses"] = responses.components()
    described["components"]["headers"] = responses.header_components()
    for _, _, operation in operations(described):
        _tell_of_keys(operation)
        _tidy_operation(operation)
    described["components"]["links"] = _link_the_start(described)
    examples.show(described, registry)
    described["paths"] = _tidy(described["paths"])
    described["components"]["schemas"] = {n: _tidy(s) for n, s in described["components"]["schemas"].items()}
    return described


def _link_the_start(described: Described) -> dict[str, Any]:
    """From the id of a start's answer to all that can be done with it; returns the links."""
    links = {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {"id": "$response.body#/id"},
            "description": operation["summary"],
        }
        for _, path, operation in operations(described)
        if path.startswith("/workflows/{id}")
    }
    answers = described["paths"]["/workflows"]["post"]["responses"]
    for status in ("200", "201"):
        answers[status]["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in links}
    return links


def _tell_of_keys(operation: dict[str, Any]) -> None:
    """An operation that needs a key may refuse for want of it, and for want of a greater one; every key may read."""
    for need in operation["security"]:
        statuses = (401,) if Scope.READ in need[access.SCHEME] else (401, 403)
        refused = responses.refusals(*statuses)
        operation["responses"] |= {str(status): refused[status] for status in statuses}


def _tidy_operation(operation: dict[str, Any]) -> None:
    """What FastAPI adds that says nothing, or what isn't so."""
    told = operation.pop("description").replace("\n\n", "\0").replace("\n", " ").split("\0")
    operation["summary"] = told[0].removesuffix(".")
    if told[1:]:
        operation["description"] = "\n\n".join(told[1:])
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for answer in operation["responses"].values():
        if "$ref" in answer:
            answer.pop("description", None)
    for parameter in operation.get("parameters", []):
        # A parameter may be left out; null can't be sent.
        choices = parameter["schema"].pop("anyOf", [])
        parameter["schema"] |= next((choice for choice in choices if choice != {"type": "null"}), {})
        parameter["schema"].pop("description", None)
        if parameter["schema"].get("default") == []:
            # A list of nothing is not sent.
            del parameter["schema"]["default"]


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
