"""What in one document of the API breaks the clients of another.

`python -m tests.document.breaking OLD NEW` lists it. Whatever a client could send before must still be taken, and
whatever is answered now must be something that the client was told of. So both questions are one: whether all
values of one schema are values of another, the older's of the newer's in requests, the other way round in answers.

`released.json` beside this file is the document of the last release: whoever releases copies `openapi.json` there.
A test holds today's document to it, and one that breaks it to a version that says so: the next major one, and
before 1.0 the next minor one.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RELEASED = Path(__file__).with_name("released.json")
AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
SAME = ("pattern", "format", "multipleOf", "uniqueItems", "propertyNames")
MAPPED = ("events", "output", "workflow")
"""Schemas of a workflow that are values of answers, though no operation refers to them."""


def changes(old: Json, new: Json) -> list[str]:
    """Every change that breaks clients, with its place."""
    found: list[str] = []
    for path, method, operation in _operations(old):
        place = f"{method.upper()} {path}"
        after = new["paths"].get(path, {}).get(method)
        if after is None:
            found.append(f"{place} is gone")
        else:
            found += (f"{place}: {change}" for change in _operation(operation, after, old, new))
    found += _workflows(old, new)
    return list(dict.fromkeys(found))


def allowed(old: str, new: str) -> bool:
    """Whether a version may break what another one promised."""
    before, after = (tuple(map(int, version.split("."))) for version in (old, new))
    return after[0] > before[0] or (before[0] == 0 and after[:2] > before[:2])


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _operation(before: Json, after: Json, old: Json, new: Json) -> Iterator[str]:
    if before["operationId"] != after["operationId"]:
        yield f"it was {before['operationId']} and is {after['operationId']}"
    if before["tags"] != after["tags"]:
        yield f"its tags were {before['tags']} and are {after['tags']}"
    if not _let_in(before.get("security", []), after.get("security", [])):
        yield "it needs another key"
    yield from _parameters(before, after, old, new)
    yield from _body(before, after, old, new)
    yield from _answers(before, after, old, new)


def _let_in(before: list[Json], after: list[Json]) -> bool:
    """Whether whoever could call it still can: a scope includes those before it."""
    order = ("read", "write", "admin")
    asked = [max((order.index(s) for scopes in need.values() for s in scopes), default=-1) for need in (before + after)]
    return not after or (bool(before) and min(asked[len(before) :]) <= min(asked[: len(before)]))


def _parameters(before: Json, after: Json, old: Json, new: Json) -> Iterator[str]:
    was, now = (
        {(parameter["in"], parameter["name"]): parameter for parameter in side.get("parameters", [])}
        for side in (before, after)
    )
    for key, parameter in now.items():
        name = f"parameter {key[1]}"
        if key not in was:
            if parameter.get("required"):
                yield f"{name} is new and required"
            continue
        if parameter.get("required") and not was[key].get("required"):
            yield f"{name} is required"
        yield from _told(name, Within(old, new).why_not(was[key]["schema"], parameter["schema"]))
    yield from (f"parameter {key[1]} is gone" for key in was if key not in now)


def _body(before: Json, after: Json, old: Json, new: Json) -> Iterator[str]:
    was, now = before.get("requestBody", {}), after.get("requestBody", {})
    if now.get("required") and not was.get("required"):
        yield "a body is required"
    for media_type, content in was.get("content", {}).items():
        taken = now.get("content", {}).get(media_type)
        if taken is None:
            yield f"a body of {media_type} is not taken"
        else:
            yield from _told("body", Within(old, new).why_not(content["schema"], taken["schema"]))


def _answers(before: Json, after: Json, old: Json, new: Json) -> Iterator[str]:
    for status, answer in before["responses"].items():
        was = _resolved(answer, old)
        if status not in after["responses"]:
            yield f"{status} is gone"
            continue
        now = _resolved(after["responses"][status], new)
        for name, header in was.get("headers", {}).items():
            left = now.get("headers", {}).get(name)
            if left is None:
                yield f"{status}: header {name} is gone"
            elif _resolved(header, old).get("required") and not _resolved(left, new).get("required"):
                yield f"{status}: header {name} may be missing"
        for media_type, content in was.get("content", {}).items():
            given = now.get("content", {}).get(media_type)
            if given is None:
                yield f"{status}: {media_type} is gone"
            else:
                within = Within(new, old, answers=True)
                yield from _told(status, within.why_not(given["schema"], content["schema"]))
    for status in after["responses"]:
        if status not in before["responses"] and status < "400":
            yield f"{status} is new, and no refusal"


def _workflows(old: Json, new: Json) -> Iterator[str]:
    was, now = (side["components"]["schemas"].get("Definition", {}).get("x-workflows", {}) for side in (old, new))
    for name, schemas in was.items():
        if name not in now:
            yield f"workflow {name} is gone"
            continue
        for what in MAPPED:
            if what in schemas:
                within = Within(new, old, answers=True)
                yield from _told(f"workflow {name}: {what}", within.why_not(now[name].get(what, True), schemas[what]))


def _told(place: str, reasons: list[str]) -> Iterator[str]:
    return (f"{place}{reason}" for reason in reasons)


def _resolved(node: Any, document: Json) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        kind, name = node["$ref"].split("/")[2:]
        beside = {word: value for word, value in node.items() if word != "$ref"}
        node = {**document["components"][kind][name], **beside}
    return node


class Within:
    """Whether the values of one document's schemas are values of another's."""

    def __init__(self, inner: Json, outer: Json, *, answers: bool = False) -> None:
        self._inner, self._outer, self._answers = inner, outer, answers
        self._under_way: set[tuple[str, str]] = set()

    def why_not(self, a: Any, b: Any) -> list[str]:
        """Reasons why a value of `a` may be none of `b`; each begins with the place below this one."""
        pair = (json.dumps(a, sort_keys=True), json.dumps(b, sort_keys=True))
        if pair in self._under_way:
            return []
        self._under_way.add(pair)
        try:
            return self._why_not(self._whole(a, self._inner), self._whole(b, self._outer))
        finally:
            self._under_way.discard(pair)

    def _whole(self, schema: Any, document: Json) -> Json:
        """Without references, and with the parts of an allOf in one."""
        if isinstance(schema, bool):
            return {} if schema else {"enum": []}
        whole = dict(_resolved(schema, document))
        for part in whole.pop("allOf", []):
            other = self._whole(part, document)
            whole = {
                **other,
                **whole,
                "properties": {**other.get("properties", {}), **whole.get("properties", {})},
                "required": [*other.get("required", []), *whole.get("required", [])],
            }
        return whole

    def _why_not(self, a: Json, b: Json) -> list[str]:
        choices, others = (_choices(schema) for schema in (a, b))
        if len(choices) > 1 or len(others) > 1:
            return [reason for choice in choices for reason in self._in_none(choice, others)]
        if choices[0] is not a or others[0] is not b:
            return self.why_not(choices[0], others[0])
        return [*_kinds(a, b), *_limits(a, b), *self._members(a, b), *self._items(a, b)]

    def _in_none(self, choice: Any, others: list[Any]) -> list[str]:
        """The fewest reasons why a value of one choice is of none of the others."""
        alike = [other for other in others if self._alike(choice, other)]
        fewest: list[str] | None = None
        for other in alike or others:
            reasons = self.why_not(choice, other)
            if fewest is None or len(reasons) < len(fewest):
                fewest = reasons
        return fewest or []

    def _alike(self, a: Any, b: Any) -> bool:
        """Whether they are the same member of a union, by the constants that tell its members apart."""
        has, takes = (
            self._whole(schema, document).get("properties", {})
            for schema, document in ((a, self._inner), (b, self._outer))
        )
        pairs = [(has[name].get("const"), takes[name].get("const")) for name in has.keys() & takes.keys()]
        return all(one == other for one, other in pairs if None not in (one, other))

    def _members(self, a: Json, b: Json) -> Iterator[str]:
        has, takes = a.get("properties", {}), b.get("properties", {})
        closed = b.get("additionalProperties") is False
        for name in b.get("required", []):
            if name not in a.get("required", []):
                yield f"/{name} " + ("may be missing" if self._answers else "is required")
        for name, schema in takes.items():
            if name in has:
                yield from (f"/{name}{reason}" for reason in self.why_not(has[name], schema))
            elif self._answers and name not in b.get("required", []):
                yield f"/{name} is gone"
        if closed:
            yield from (f"/{name} is " + ("new" if self._answers else "not taken") for name in has if name not in takes)
        others, taken = a.get("additionalProperties", True), b.get("additionalProperties", True)
        if (has or takes or "additionalProperties" in a) and others is not False and taken is not True:
            yield from (f"/*{reason}" for reason in self.why_not(others, taken))

    def _items(self, a: Json, b: Json) -> Iterator[str]:
        if "items" in b:
            yield from (f"/-{reason}" for reason in self.why_not(a.get("items", True), b["items"]))


def _choices(schema: Json) -> list[Any]:
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return list(schema[word])
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    return [schema]


def _kinds(a: Json, b: Json) -> Iterator[str]:
    if "type" in b and b["type"] != a.get("type") and (a.get("type"), b["type"]) != ("integer", "number"):
        values = _values(a)
        if values is None or "type" in a:
            yield f" is {a.get('type', 'anything')} against {b['type']}"
            return
    values, taken = _values(a), _values(b)
    if taken is not None and (values is None or any(value not in taken for value in values)):
        extra = "any value" if values is None else [value for value in values if value not in taken]
        yield f" is {extra} against {taken}"


def _values(schema: Json) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _limits(a: Json, b: Json) -> Iterator[str]:
    if _values(a) is not None:
        return
    for word in (*AT_LEAST, *AT_MOST):
        if word in b and (word not in a or (a[word] < b[word] if word in AT_LEAST else a[word] > b[word])):
            yield f" has {word} {a.get(word, 'not at all')} against {b[word]}"
    for word in SAME:
        if word in b and a.get(word) != b[word]:
            yield f" has {word} {a.get(word, 'not at all')} against {b[word]}"


if __name__ == "__main__":
    before, after = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
    broken = changes(before, after)
    print("\n".join(broken) or "Nothing breaks.")
    sys.exit(bool(broken) and not allowed(before["info"]["version"], after["info"]["version"]))
