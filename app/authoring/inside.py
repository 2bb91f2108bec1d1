"""What is left of the context in a step: who it works for, its key, events, HTTP and the log; nothing durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from app.authoring.context import Context
from app.errors import AuthoringError

if TYPE_CHECKING:
    from random import Random

NO_EVENT = "ctx.set_event can't be undone with a transaction: set the event after it."
NO_HTTP = "A transaction holds locks, so it makes no requests: make them in a step before it."
NOT_IN_THREADS = (
    "ctx.http is for async steps; a plain `def` step may use httpx.Client, and send ctx.idempotency_key as its"
    " Idempotency-Key."
)


def _unavailable(what: str) -> Callable[..., NoReturn]:
    def refuse(self: InsideStep, *_: Any, **__: Any) -> NoReturn:
        raise AuthoringError(f"ctx.{what} is a durable call: it can be made by the workflow's function, not in a step.")

    return refuse


class InsideStep(Context):
    """Refuses all durable calls. `seq` is the number of the step's call."""

    def __init__(self, workflow_id: str, seq: int) -> None:
        self._workflow_id, self._seq = workflow_id, seq

    @property
    def workflow_id(self) -> str:
        return self._workflow_id

    @property
    def idempotency_key(self) -> str:
        return f"{self._workflow_id}:{self._seq}"

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
