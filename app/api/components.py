"""The document's schemas by name, with room for those that the workflows' authors bring."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PLACE = "#/components/schemas/"
_LOCAL = "#/$defs/"


class Components:
    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = dict(schemas)
        self._prefixes: dict[str, str] = {}

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._schemas[name]
        return found

    def update(self, schemas: Mapping[str, Any]) -> None:
        self._schemas.update(schemas)

    def discard(self, name: str) -> None:
        self._schemas.pop(name, None)

    def sorted(self) -> dict[str, Any]:
        return {name: self._schemas[name] for name in sorted(self._schemas)}

    def prefix(self, workflow: str) -> str:
        """What the names of a workflow's schemas begin with."""
        words = re.split(r"[^A-Za-z0-9]+", workflow)
        plain = "".join(word[:1].upper() + word[1:] for word in words) or "_"
        taken, number = plain, 2
        while self._prefixes.setdefault(taken, workflow) != workflow:
            taken, number = f"{plain}_{number}", number + 1
        return taken

    def add(self, name: str, schema: Mapping[str, Any]) -> str:
        """Take in a schema under a name that is free, its own definitions beside it; returns the reference."""
        taken = self._free(name, schema)
        self._schemas[taken] = self._hoisted(name, schema)
        return PLACE + taken

    def add_object(self, name: str, properties: Mapping[str, Mapping[str, Any]], *, description: str) -> str:
        hoisted = {key: self._hoisted(name, schema) for key, schema in properties.items()}
        return self.add(name, {"type": "object", "description": description, "properties": hoisted})

    def _hoisted(self, owner: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema with its local definitions moved among ours."""
        local = schema.get("$defs", {})
        places = {name: self._place(owner, name, definition) for name, definition in local.items()}
        for name, definition in local.items():
            self._schemas[places[name]] = _pointed(definition, places)
        rest = {name: value for name, value in schema.items() if name != "$defs"}
        pointed: dict[str, Any] = _pointed(rest, places)
        return pointed

    def _place(self, owner: str, name: str, definition: Any) -> str:
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        own = _pointed(definition, {other: other for other in _references(definition)})
        if self._schemas.get(plain, own) == own:
            self._schemas[plain] = own
            return plain
        return self._free(owner + plain, definition)

    def _free(self, name: str, schema: Any) -> str:
        taken, number = name, 2
        while taken in self._schemas and self._schemas[taken] != schema:
            taken, number = f"{name}_{number}", number + 1
        return taken


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return {name for item in node for name in _references(item)}
    if not isinstance(node, dict):
        return set()
    own = node.get("$ref")
    found = {own.removeprefix(_LOCAL)} if isinstance(own, str) and own.startswith(_LOCAL) else set()
    return found | {name for child in node.values() for name in _references(child)}


def _pointed(node: Any, places: Mapping[str, str]) -> Any:
    """With references to local definitions turned into references to ours."""
    if isinstance(node, list):
        return [_pointed(item, places) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        name: PLACE + places[child.removeprefix(_LOCAL)]
        if name == "$ref" and isinstance(child, str) and child.startswith(_LOCAL)
        else _pointed(child, places)
        for name, child in node.items()
    }
