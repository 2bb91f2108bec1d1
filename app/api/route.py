"""How a path finds its endpoint: on the raw path, exactly, and with our own reading of the arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from app.api import access
from app.api.binding import Binding
from app.api.request import Request


class Route(APIRoute):
    """A JSON resource: query parameters that it does not know are refused.

    The path is matched as it was sent. Decoding first would let `%2F` change the route, and let
    different keys that are no UTF-8 fall into one.
    """

    strict_query: ClassVar[bool] = True

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        told = {"openapi_extra": {**(options.get("openapi_extra") or {}), **access.security(endpoint)}}
        super().__init__(path, endpoint, **{**options, **told, "operation_id": endpoint.__name__})
        self._raw_path = re.compile(self.path_regex.pattern.removesuffix("$").encode()).fullmatch
        binding = Binding(endpoint, strict_query=self.strict_query)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive, send)
            response = await endpoint(**await binding.read(request))
            await response(scope, receive, send)

        self.app = serve

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        found = self._raw_path(scope.get("raw_path") or scope["path"].encode())
        if found is None:
            return Match.NONE, {}
        match = Match.FULL if scope["method"] in (self.methods or ()) else Match.PARTIAL
        return match, {"path_params": found.groupdict()}


class LooseRoute(Route):
    """A page, a probe or a callback: whatever stands in the query is ignored."""

    strict_query: ClassVar[bool] = False


def allowed(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """The methods of all routes of a path, for the Allow header."""
    methods: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
