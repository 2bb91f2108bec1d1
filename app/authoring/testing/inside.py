"""What a step of a test is given for the context: events, its key, HTTP and the log; nothing durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from app.authoring.context import Context, Logger
from app.authoring.testing.log import Log
from app.errors import AuthoringError

if TYPE_CHECKING:
    from random import Random

    import httpx


class Outside(Protocol):
    """What it needs of the workflow's own context."""

    @property
    def workflow_id(self) -> str: ...
    def publish(self, key: str, value: Any) -> Awaitable[None]: ...
    def client(self, idempotency_key: str) -> httpx.AsyncClient: ...


def _unavailable(what: str) -> Callable[..., NoReturn]:
    def refuse(self: Inside, *_: Any, **__: Any) -> NoReturn:
        raise AuthoringError(f"ctx.{what} is a durable call: it can be made by the workflow's function, not in a step.")

    return refuse


class Inside(Context):
    def __init__(self, outside: Outside, seq: int, *, in_loop: bool, in_transaction: bool) -> None:
        self._outside, self._seq = outside, seq
        self._in_loop, self._in_transaction = in_loop, in_transaction

    @property
    def workflow_id(self) -> str:
        return self._outside.workflow_id

    @property
    def idempotency_key(self) -> str:
        return f"{self.workflow_id}:{self._seq}"

    def set_event(self, key: str, value: Any) -> Awaitable[None]:
        if self._in_transaction:
            raise AuthoringError("An event that is set inside a transaction could outlive it: set it after.")
        return self._outside.publish(key, value)

    @property
    def http(self) -> httpx.AsyncClient:
        if not self._in_loop or self._in_transaction:
            raise AuthoringError("ctx.http is for async steps.")
        return self._outside.client(self.idempotency_key)

    @property
    def logger(self) -> Logger:
        return Log()

    @property
    def random(self) -> Random:
        return _unavailable("random")(self)

    step = _unavailable("step")
    get_event = _unavailable("get_event")
    receive = _unavailable("receive")
    send = _unavailable("send")
    sleep = _unavailable("sleep")
    sleep_until = _unavailable("sleep_until")
    start = _unavailable("start")
    callback = _unavailable("callback")
    transaction = _unavailable("transaction")
    now = _unavailable("now")
    uuid = _unavailable("uuid")
