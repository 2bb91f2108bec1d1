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
        hoisted = {key: self._hoisted(name, _referred(schema)) for key, schema in properties.items()}
        return self.add(name, {"type": "object", "description": description, "properties": hoisted})

    def _hoisted(self, owner: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema with its local definitions moved among ours."""
        local = schema.get("$defs", {})
        places = {name: re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in local}
        # All or none under their own names: those that are alike may refer to some that are not.
        if len(set(places.values())) < len(places) or not all(
            self._schemas.get(place, child) == child
            for place, child in ((places[name], _pointed(local[name], places)) for name in local)
        ):
            places = self._apart(owner, places)
        self._schemas |= {places[name]: _pointed(definition, places) for name, definition in local.items()}
        rest = {name: value for name, value in schema.items() if name != "$defs"}
        pointed: dict[str, Any] = _pointed(rest, places)
        return pointed

    def _apart(self, owner: str, places: Mapping[str, str]) -> dict[str, str]:
        """Names that nobody has yet."""
        apart: dict[str, str] = {}
        for name, place in places.items():
            taken, number = owner + place, 2
            while taken in self._schemas or taken in apart.values():
                taken, number = f"{owner}{place}_{number}", number + 1
            apart[name] = taken
        return apart

    def _free(self, name: str, schema: Any) -> str:
        taken, number = name, 2
        while taken in self._schemas and self._schemas[taken] != schema:
            taken, number = f"{name}_{number}", number + 1
        return taken


def _referred(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a class as a reference to it, so that the class has its own name wherever it is used."""
    local, title = schema.get("$defs", {}), schema.get("title")
    if title is None or title in local or not schema.keys() & {"properties", "enum"}:
        return schema
    itself = {name: value for name, value in schema.items() if name != "$defs"}
    return {"$ref": _LOCAL + title, "$defs": {**local, title: itself}}


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
