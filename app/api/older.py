"""The document in OpenAPI 3.0.3, for those who don't read 3.1: the same contract in the older words.

Null was a flag there and not a type, a constant a choice of one, a reference stood alone, and a schema knew
fewer words. What has no older word is left out: it only ever narrows what may be sent, and the service still says
so in its refusals.
"""

from __future__ import annotations

from typing import Any

VERSION = "3.0.3"
APACHE = "https://www.apache.org/licenses/LICENSE-2.0"

_KEPT = frozenset({
    *("type", "format", "title", "description", "enum", "default", "example", "pattern", "multipleOf", "nullable"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties"),
    *("maxProperties", "required", "readOnly", "writeOnly", "deprecated", "discriminator", "externalDocs"),
})  # fmt: skip
_ONE, _LIST, _MAP = frozenset({"items", "not"}), frozenset({"allOf", "anyOf", "oneOf"}), frozenset({"properties"})


def document(described: dict[str, Any]) -> dict[str, Any]:
    info = {**described["info"], "license": {"name": described["info"]["license"]["name"], "url": APACHE}}
    schemas = described["components"]["schemas"]
    components = {
        kind: {name: schema(part) if kind == "schemas" else _part(part) for name, part in parts.items()}
        for kind, parts in described["components"].items()
    }
    older = {
        **described,
        "openapi": VERSION,
        "info": info,
        "paths": _part(described["paths"]),
        "components": components,
    }
    _name_types(older, schemas)
    return older


def _part(node: Any) -> Any:
    """What is no schema is the same in both; the schemas in it are under one name."""
    if isinstance(node, list):
        return [_part(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        name: schema(child) if name == "schema" else child if name in ("example", "examples") else _part(child)
        for name, child in node.items()
    }


def schema(newer: Any) -> dict[str, Any]:
    if isinstance(newer, bool):
        return {} if newer else {"not": {}}
    if "$ref" in newer:
        return _beside(newer)
    older = {name: value for name, value in newer.items() if name in _KEPT or name.startswith("x-")}
    older |= {name: schema(newer[name]) for name in _ONE if name in newer}
    older |= {name: [schema(choice) for choice in newer[name]] for name in _LIST if name in newer}
    older |= {name: {n: schema(s) for n, s in newer[name].items()} for name in _MAP if name in newer}
    _bound(older, newer, "minimum", "exclusiveMinimum")
    _bound(older, newer, "maximum", "exclusiveMaximum")
    _constant(older, newer)
    _members(older, newer)
    _choices(older)
    _types(older)
    return older


def _beside(newer: dict[str, Any]) -> dict[str, Any]:
    """A reference has nothing beside it."""
    rest = schema({name: value for name, value in newer.items() if name != "$ref"})
    reference = {"$ref": newer["$ref"]}
    return {"allOf": [reference, *rest.pop("allOf", [])], **rest} if rest else reference


def _bound(older: dict[str, Any], newer: dict[str, Any], inclusive: str, exclusive: str) -> None:
    if exclusive in newer:
        older[inclusive], older[exclusive] = newer[exclusive], True


def _constant(older: dict[str, Any], newer: dict[str, Any]) -> None:
    if "const" in newer:
        older["enum"] = [newer["const"]]
    if "examples" in newer:
        older.setdefault("example", newer["examples"][0])


def _members(older: dict[str, Any], newer: dict[str, Any]) -> None:
    """Of objects and lists; those whose names fit a pattern are some of the others here."""
    others = newer.get("additionalProperties")
    patterns = list(newer.get("patternProperties", {}).values())
    if patterns:
        older["additionalProperties"] = schema(patterns[0]) if len(patterns) == 1 and others is False else True
    elif isinstance(others, dict):
        older["additionalProperties"] = schema(others)
    elif others is not None:
        older["additionalProperties"] = others
    if "prefixItems" in newer:
        older["items"] = {"anyOf": [schema(item) for item in newer["prefixItems"]]}
    if newer.get("type") == "array" or "array" in newer.get("type", ()):
        older.setdefault("items", {})


def _choices(older: dict[str, Any]) -> None:
    """Null among the choices is a flag beside them."""
    for name in ("anyOf", "oneOf"):
        if name not in older:
            continue
        left = [choice for choice in older[name] if not _is_null(choice)]
        if len(left) == len(older[name]) or not left:
            continue
        older["nullable"] = True
        if len(left) > 1 or name in older.keys() - {name}:
            older[name] = left
            continue
        del older[name]
        only = left[0]
        if "$ref" in only or older.keys() & only.keys() - {"description", "nullable", "title"}:
            older["allOf"] = [*older.get("allOf", []), only]
        else:
            older |= {word: value for word, value in only.items() if word not in older}


def _types(older: dict[str, Any]) -> None:
    types = older.get("type")
    if types == "null":
        del older["type"]
        older |= {"nullable": True, "enum": [None]}
    elif isinstance(types, list):
        left = [kind for kind in types if kind != "null"]
        if len(left) < len(types):
            older["nullable"] = True
        if len(left) == 1:
            older["type"] = left[0]
        else:
            del older["type"]
            older["anyOf"] = [{"type": kind} for kind in left]
    if older.get("nullable") and "enum" in older and None not in older["enum"]:
        older["enum"] = [*older["enum"], None]


def _name_types(node: Any, schemas: dict[str, Any]) -> None:
    """Null may stand only for what has a type, so a nullable reference says the type of what it refers to."""
    if isinstance(node, list):
        for item in node:
            _name_types(item, schemas)
    elif isinstance(node, dict):
        if node.get("nullable") is True and "type" not in node and "allOf" in node:
            kind = _kind(node["allOf"][0], schemas)
            node |= {"type": kind} if kind else {}
        for child in node.values():
            _name_types(child, schemas)


def _kind(newer: dict[str, Any], schemas: dict[str, Any]) -> str | None:
    """The one type that a schema has."""
    if "$ref" in newer:
        return _kind(schemas[newer["$ref"].rpartition("/")[2]], schemas)
    choices = newer.get("anyOf") or newer.get("oneOf")
    if choices:
        kinds = {_kind(choice, schemas) for choice in choices}
        return kinds.pop() if len(kinds) == 1 else None
    kind = newer.get("type")
    return kind if isinstance(kind, str) and kind != "null" else None


def _is_null(choice: dict[str, Any]) -> bool:
    return choice.get("enum") == [None]
