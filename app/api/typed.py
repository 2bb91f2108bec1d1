"""What the document says of each registered workflow: its start, its input and output, and what it publishes."""

from __future__ import annotations

from typing import Any

from app.api.components import Components
from app.authoring.definitions import Definition, Registry
from app.errors import InvalidInput


def describe(described: dict[str, Any], registry: Registry, components: Components) -> None:
    """A start's body as a union by name, one member for each workflow; its other schemas are beside it.

    The schema Definition tells which they are. Those of the answers stay open: a listing may hold workflows
    that only another replica has registered.
    """
    newest = [definition for name in registry.names() if (definition := registry.newest(name))]
    if not newest:
        return
    schemas = {definition.name: _schemas(definition, components) for definition in newest}
    starts = {name: named["start"] for name, named in schemas.items()}
    described["paths"]["/workflows"]["post"]["requestBody"]["content"]["application/json"]["schema"] = {
        "oneOf": [{"$ref": reference} for reference in starts.values()],
        "discriminator": {"propertyName": "name", "mapping": starts},
    }
    components.get("Definition")["x-workflows"] = {
        name: {what: {"$ref": reference} for what, reference in named.items()} for name, named in schemas.items()
    }
    components.discard("Start")


def _schemas(definition: Definition, components: Components) -> dict[str, str]:
    """The references to a workflow's schemas."""
    name, prefix = definition.name, components.prefix(definition.name)
    taken: dict[str, Any] = {"type": "null", "description": "This workflow takes no input."}
    references = {}
    if definition.input is not None:
        references["input"] = components.add(f"{prefix}Input", _without_defaults(definition.input.schema("validation")))
        taken = {"$ref": references["input"]}
    references["output"] = components.add(f"{prefix}Output", definition.output.schema("serialization"))
    if definition.events:
        references["events"] = components.add_object(
            f"{prefix}Events",
            {key: codec.schema("serialization") for key, codec in sorted(definition.events.items())},
            description=f"The types of what {name} publishes, by key.",
        )
    named = {"type": "string", "const": name}
    start, workflow = components.get("Start"), components.get("Workflow")
    references["start"] = components.add(
        f"{prefix}Start",
        {
            "type": "object",
            "description": definition.description or f"Starts {name}.",
            "properties": {**_without_defaults(start)["properties"], "name": named, "input": taken},
            "required": ["name"] if _may_be_left_out(definition) else ["name", "input"],
            "additionalProperties": False,
        },
    )
    given = {"anyOf": [{"$ref": references["output"]}, {"type": "null"}], "description": "null unless SUCCEEDED."}
    references["workflow"] = components.add(
        f"{prefix}Workflow",
        {
            **workflow,
            "description": f"A Workflow whose name is {name}.",
            "properties": {**workflow["properties"], "name": named, "input": taken, "output": given},
        },
    )
    return dict(sorted(references.items()))


def _may_be_left_out(definition: Definition) -> bool:
    try:
        definition.arguments(None)
    except InvalidInput:
        return False
    return True


def _without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Defaults of members are told in words.

    As keywords they end up in clients, which send them ever after or ask for members that may be left out.
    """
    told = {**schema}
    for place in ("properties", "$defs"):
        if place in schema:
            change = _told if place == "properties" else _without_defaults
            told[place] = {name: change(child) for name, child in schema[place].items()}
    return told


def _told(member: dict[str, Any]) -> dict[str, Any]:
    if "default" not in member:
        return member
    rest = {name: value for name, value in member.items() if name != "default"}
    if member["default"] in (None, [], {}):
        return rest
    said = f"{member['description'].rstrip('.')}. " if "description" in member else ""
    return {**rest, "description": f"{said}Default: {member['default']}."}
