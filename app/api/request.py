"""A request as this service reads it: strictly, and from the bytes that were sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from starlette import requests
from starlette.types import Scope

from app import aside, values
from app.errors import Fault, InvalidRequest, MalformedJson, UnsupportedMediaType
from app.model import JsonText

if TYPE_CHECKING:
    from app.api.options import Options
    from app.engine.runtime import Runtime

ONLY_LOOKS = "milepost.only_looks"
"""In a scope: the request was a HEAD, so it gets what a GET would, without waiting and without body."""

_NOT_UTF8 = "this is not percent-encoded UTF-8"
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_JSON = re.compile(rb'\s*application/json\s*(;\s*[\w.-]+\s*=\s*("[^"\\]*"|[^\s;"]+)\s*)*;?\s*', re.IGNORECASE)
_CHARSET = re.compile(rb';\s*charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE)
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_FIELDS = "milepost.fields"
"""In a scope: its headers by name."""


class Request(requests.Request):
    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.scope["app"].runtime
        return runtime

    @property
    def options(self) -> Options:
        options: Options = self.scope["app"].options
        return options

    @property
    def raw_path(self) -> str:
        return raw_path(self.scope)

    @property
    def traceparent(self) -> str | None:
        """The caller's trace context (W3C); one that is malformed is as none."""
        sent = given(self.scope, b"traceparent")
        return sent[0].decode("latin-1") if len(sent) == 1 and _TRACEPARENT.fullmatch(sent[0]) else None

    def patience(self, timeout: float | None) -> float:
        """How many seconds this request waits, given what its query says."""
        if ONLY_LOOKS in self.scope:
            return 0.0
        return self.options.default_timeout if timeout is None else timeout

    async def body(self) -> bytes:
        """All of it. Read at once: chunk by chunk through a generator takes several times as long."""
        if not hasattr(self, "_body"):
            chunks, more = [], True
            while more:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise requests.ClientDisconnect
                chunks.append(message.get("body", b""))
                more = message.get("more_body", False)
            self._body = b"".join(chunks)
        return self._body

    async def json(self, max_depth: int = values.MAX_DEPTH) -> Any:
        """The body as strict JSON; `max_depth` counts from the document's root."""
        declared = given(self.scope, b"content-type")
        if given(self.scope, b"content-encoding") or len(declared) > 1 or not all(map(_is_json, declared)):
            raise UnsupportedMediaType
        body = await self.body()
        if not body:
            raise MalformedJson("The body is not JSON: it is empty.")
        if not declared:
            raise UnsupportedMediaType
        return await aside.work(len(body), values.parse, body, max_depth=max_depth)

    async def text(self, value: Any, pointer: str = "") -> JsonText:
        """The text of a value of the body; refusals point to it."""
        return await aside.work(len(await self.body()), values.encode, value, pointer=pointer)

    async def text_and_digest(self, value: Any, pointer: str = "") -> tuple[JsonText, bytes]:
        return await aside.work(len(await self.body()), values.write, value, pointer=pointer)


def given(scope: Scope, name: bytes) -> Sequence[bytes]:
    """What a header says, each time that it is there. The headers are gone through once for all that ask."""
    fields: dict[bytes, list[bytes]] | None = scope.get(_FIELDS)
    if fields is None:
        fields = scope[_FIELDS] = {}
        for sent, value in scope["headers"]:
            fields.setdefault(sent, []).append(value)
    return fields.get(name, ())


def raw_path(scope: Scope) -> str:
    """The path as it was sent, percent-encoded."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path.decode("latin-1")


def decode_path(segment: bytes, parameter: str) -> str:
    """One segment of a path; two different segments never come out alike."""
    return _decode(segment, _NOT_UTF8, parameter)


def query_pairs(raw: bytes) -> Iterator[tuple[str, str]]:
    """The query's parameters in their order, strictly decoded."""
    if not raw:
        return
    for piece in raw.split(b"&"):
        name_part, _, value_part = piece.partition(b"=")
        name = _decode(name_part.replace(b"+", b" "), "the query is not percent-encoded UTF-8", "")
        yield name, _decode(value_part.replace(b"+", b" "), _NOT_UTF8, name)


def _decode(raw: bytes, complaint: str, parameter: str) -> str:
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise InvalidRequest(Fault(complaint, parameter=parameter))
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(Fault(complaint, parameter=parameter)) from None


def _is_json(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    charsets = _CHARSET.findall(content_type)
    return _JSON.fullmatch(content_type) is not None and all(charset.lower() == b"utf-8" for charset in charsets)
