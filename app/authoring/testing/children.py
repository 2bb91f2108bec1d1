"""Children in a test: what becomes of them is what the test says."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from app import values
from app.authoring import checks
from app.authoring.codecs import Codec
from app.authoring.context import Handle
from app.authoring.testing.outcome import Outcome, Script, StartedChild
from app.errors import AuthoringError, ChildFailed


class Parent(Protocol):
    """What a child needs of the context that started it."""

    def begin(self) -> int: ...
    async def in_time(self, given: Any, timeout: float | None, what: str) -> Any: ...
    async def get_event(self, workflow_id: str, key: str, *, timeout: float | None = None) -> Any: ...


class Child(Handle):
    def __init__(
        self,
        parent: Parent,
        script: Script,
        outcome: Outcome,
        child: StartedChild,
        *,
        workflow: Any,
        output: Codec[Any],
    ) -> None:
        self._parent, self._script, self._outcome = parent, script, outcome
        self._child, self._workflow, self._output = child, workflow, output

    @property
    def id(self) -> str:
        return self._child.id

    async def result(self, *, timeout: float | None = None) -> Any:
        self._parent.begin()
        limit = checks.timeout(timeout)
        value = await self._parent.in_time(self._given(), limit, f"the result of {self._child.name}")
        if callable(value):
            value = value(self._child.input)
            value = await value if inspect.isawaitable(value) else value
        if isinstance(value, ChildFailed):
            raise value
        if isinstance(value, Exception):
            raise ChildFailed(
                self._child.id, "FAILED", {"type": type(value).__name__, "message": str(value)}
            ) from value
        return values.decode(self._output.encode(value))

    async def get_event(self, key: str, *, timeout: float | None = None) -> Any:
        return await self._parent.get_event(self._child.id, key, timeout=timeout)

    async def cancel(self) -> None:
        self._parent.begin()
        self._outcome.cancelled.append(self._child.id)

    def _given(self) -> Any:
        for key in (self._workflow, self._child.name):
            if key in self._script.children:
                return self._script.children[key]
        raise AuthoringError(f"The workflow waits for {self._child.name}: give testing.run(children=…) its result.")
