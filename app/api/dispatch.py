"""From a request to its operation: by the method and the path as it was sent, and only for whoever may do it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.api.access import Door, Gate
from app.api.route import Route, allowed
from app.errors import MethodNotAllowed, RouteNotFound


class Table:
    """What is served. The order of the doors is the order in which a path is tried, those that are fixed first."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self._routes = [route for route, _ in doors]
        self._fixed: dict[tuple[str, bytes], Door] = {}
        self._open: dict[tuple[str, int], list[Door]] = {}
        self._others: list[Door] = []
        for door in doors:
            route, _ = door
            if not isinstance(route, Route):
                self._others.append(door)
                continue
            path = route.path.encode()
            for method in route.methods or ():
                if route.param_convertors:
                    self._open.setdefault((method, path.count(b"/")), []).append(door)
                else:
                    self._fixed[method, path] = door

    def find(self, scope: Scope) -> Door | None:
        """What serves a request, whose parameters are in the scope then; None: there is nothing."""
        method, path = scope["method"], scope["raw_path"]
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            scope["path_params"] = {}
            return fixed
        # A parameter is one segment, so a path has as many as its route.
        for door in chain(self._open.get((method, path.count(b"/")), ()), self._others):
            match, found = door[0].matches(scope)
            if match is Match.FULL:
                scope.update(found)
                return door
        return None

    def allowed(self, scope: Scope) -> str:
        return allowed(self._routes, scope)


class Finder:
    """Finds what serves a request; with a gate, for those whom it admits."""

    def __init__(self, table: Table, gate: Gate | None) -> None:
        self._table, self._gate = table, gate

    def find(self, scope: Scope) -> BaseRoute:
        door = self._table.find(scope)
        if self._gate is not None:
            self._gate.admit(scope, door)
        if door is None:
            if allow := self._table.allowed(scope):
                raise MethodNotAllowed(allow)
            raise RouteNotFound
        return door[0]
