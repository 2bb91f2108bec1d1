"""Holds answers to the document that the service itself gives."""

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from referencing import Registry
from referencing.jsonschema import DRAFT202012

TRANSPORT = frozenset({"connection", "content-length", "content-type", "date", "transfer-encoding", "vary"}) | {
    f"access-control-{what}" for what in ("allow-origin", "expose-headers")
}
"""Headers that are a matter of HTTP itself, or of browsers."""


class Conformance:
    """As a hook of an httpx client: fails on an answer that the document does not describe."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._registry: Registry[Any] = Registry().with_resource("urn:api", DRAFT202012.create_resource(document))
        self._paths = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", re.escape(path).replace(r"\{", "{").replace(r"\}", "}"))), path)
            for path in sorted(document["paths"], key=lambda path: path.count("{"))
        ]

    def __call__(self, response: httpx.Response) -> None:
        request = response.request
        path = request.url.raw_path.decode().partition("?")[0]
        operations: dict[str, Any] = next(
            (self._document["paths"][p] for pattern, p in self._paths if pattern.fullmatch(path)), {}
        )
        operation = operations.get("get" if request.method == "HEAD" else request.method.lower())
        if operation is None:
            assert response.status_code in (401, 404, 405, 204, 421), f"{request.method} {path} is in no document"
            return
        described = self._resolved(operation["responses"].get(str(response.status_code)))
        told = f"{request.method} {path}: {response.status_code}"
        assert described, f"{told} is not described: {response.read().decode()}"
        headers = described.get("headers", {})
        for name in headers:
            required = self._header(headers[name])["required"]
            assert not required or name in response.headers, f"{told} lacks {name}"
        undescribed = set(response.headers) - {name.lower() for name in headers} - TRANSPORT
        assert not undescribed, f"{told} has headers that are not described: {undescribed}"
        content = described.get("content", {})
        if not content:
            assert not response.read(), f"{told} has a body"
            return
        media_type = response.headers["Content-Type"].partition(";")[0]
        assert media_type in content, f"{told} is {media_type}"
        if media_type.endswith("json") and request.method != "HEAD":
            response.read()
            self._validate(told, response.json(), content[media_type]["schema"])

    def _validate(self, told: str, body: Any, schema: dict[str, Any]) -> None:
        if "$ref" in schema:
            schema = {"$ref": f"urn:api{schema['$ref']}"}
        faults = list(Draft202012Validator(schema, registry=self._registry).iter_errors(body))
        assert not faults, f"{told}: {faults[0].json_path}: {faults[0].message}"
        component = self._component(schema)
        extra = set(body) - set(component.get("properties", {})) if component.get("properties") else set()
        assert not extra, f"{told} has members that are not described: {extra}"

    def _component(self, schema: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").rpartition("/")[2]
        found: dict[str, Any] = self._document["components"]["schemas"].get(name, {})
        return found

    def _header(self, header: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._document["components"]["headers"].get(header.get("$ref", "").rpartition("/")[2])
        return found or header

    def _resolved(self, response: dict[str, Any] | None) -> dict[str, Any] | None:
        if response and "$ref" in response:
            found: dict[str, Any] = self._document["components"]["responses"][response["$ref"].rpartition("/")[2]]
            return found
        return response
