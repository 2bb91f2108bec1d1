"""What a step of a test is given for the context: events, its key, HTTP and the log; nothing durable."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

from app.authoring.context import Logger
from app.authoring.inside import NO_EVENT, NO_HTTP, NOT_IN_THREADS, InsideStep
from app.authoring.testing.log import Log
from app.errors import AuthoringError

if TYPE_CHECKING:
    import httpx


class Outside(Protocol):
    """What it needs of the workflow's own context."""

    @property
    def workflow_id(self) -> str: ...
    def publish(self, key: str, value: Any) -> Awaitable[None]: ...
    def client(self, idempotency_key: str) -> httpx.AsyncClient: ...


class Inside(InsideStep):
    def __init__(self, outside: Outside, seq: int, *, in_loop: bool, in_transaction: bool) -> None:
        super().__init__(outside.workflow_id, seq)
        self._outside = outside
        self._in_loop, self._in_transaction = in_loop, in_transaction

    def set_event(self, key: str, value: Any) -> Awaitable[None]:
        if self._in_transaction:
            raise AuthoringError(NO_EVENT)
        return self._outside.publish(key, value)

    @property
    def http(self) -> httpx.AsyncClient:
        if self._in_transaction:
            raise AuthoringError(NO_HTTP)
        if not self._in_loop:
            raise AuthoringError(NOT_IN_THREADS)
        return self._outside.client(self.idempotency_key)

    @property
    def logger(self) -> Logger:
        return Log()
