"""The document's examples: a checkout, as it was once recorded from a running service.

`examples.json` has the requests in their order, with what was answered. A test sends them again and sees that the
answers are still these, but for times, ids and numbers that differ each time.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from app.authoring.definitions import Registry

_FILE = Path(__file__).with_name("examples.json")
WORKFLOW, MODULE = "checkout", "app.workflows.checkout"


@cache
def recorded() -> list[dict[str, Any]]:
    """Each with the operation, its path's and query's parameters, its body, and the status and body of the answer."""
    exchanges: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return exchanges


def show(described: dict[str, Any], registry: Registry) -> None:
    """Put them where they belong, if this service has what they are about."""
    definition = registry.newest(WORKFLOW)
    if definition is None or definition.function.__module__ != MODULE:
        return
    by_id = {operation["operationId"]: operation for path in described["paths"].values() for operation in path.values()}
    for exchange in recorded():
        operation = by_id[exchange["operation"]]
        if "body" in exchange and exchange["status"] < 400:
            _add(operation["requestBody"]["content"]["application/json"], exchange, exchange["body"])
        for parameter in operation.get("parameters", []):
            given = exchange["path"] if parameter["in"] == "path" else exchange["query"]
            if parameter["name"] in given:
                parameter.setdefault("example", given[parameter["name"]])
        if exchange["answer"] is None:
            continue
        answer = operation["responses"][str(exchange["status"])]
        if "$ref" in answer:
            answer = described["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        _add(next(iter(answer["content"].values())), exchange, exchange["answer"])


def _add(content: dict[str, Any], exchange: dict[str, Any], value: Any) -> None:
    content.setdefault("examples", {})[exchange["name"]] = {"summary": exchange["summary"], "value": value}
