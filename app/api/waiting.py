"""Requests that wait: each has a seat, and leaves it when its client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import Any, TypeVar, cast

from starlette.requests import ClientDisconnect

from app.api import render
from app.api.request import Request
from app.api.schemas.base import Mode
from app.engine import views
from app.engine.commands import Started
from app.engine.hub import Watch
from app.engine.views import Reading
from app.errors import Unavailable, WorkflowNotFound
from app.model import Event, Message, Status, Workflow, WorkflowId

T = TypeVar("T")

GRACE = 0.05
"""Seconds of a wait before its client is looked after."""


def seat(request: Request, seconds: float) -> AbstractContextManager[None]:
    """A waiting request's slot. It is to be taken before anything is committed; raises Overloaded."""
    return request.runtime.hub.seat() if seconds > 0 else nullcontext()


async def attended(request: Request, wait: Coroutine[Any, Any, T], seconds: float = 1.0) -> T:
    """The outcome of a wait, for as long as the client is there; raises ClientDisconnect when it is not."""
    if seconds <= 0:
        return await wait
    attendant = Attendant(request)
    try:
        return await wait
    except asyncio.CancelledError:
        if attendant.client_is_gone:
            attendant.task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        attendant.leave()


class Attendant:
    """Breaks its maker's wait off when the client goes away. Waits that are soon over pay next to nothing for it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        self.client_is_gone = False
        self._watch: asyncio.Task[None] | None = None
        self._timer = self.task.get_loop().call_later(GRACE, self._begin)

    def leave(self) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _begin(self) -> None:
        self._watch = asyncio.create_task(_gone(self._request), name="attendant")
        self._watch.add_done_callback(self._break_off)

    def _break_off(self, watch: asyncio.Task[None]) -> None:
        # It may have found out just when the wait was over.
        if self._watch is not None and not watch.cancelled():
            self.client_is_gone = True
            self.task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Wait:
    """What a request waits for after it has committed something.

    The commit has the say over the status: when the wait fails, what is known is the answer.
    """

    def __init__(
        self, request: Request, keys: Sequence[str], mode: Mode, timeout: float | None, *, result: bool = False
    ) -> None:
        self._request, self._mode, self._result = request, mode, result
        self._keys = list(dict.fromkeys(keys))
        self.seconds = request.patience(timeout) if keys or result else 0.0

    async def after_start(self, started: Started, watch: Watch) -> tuple[Workflow, str]:
        """The workflow as it stands then, and the text of the member `events`. `watch` has been on since before it was
        started."""
        until = monotonic() + self.seconds
        workflow = started.workflow
        members, status = "", None
        if self._keys:
            wait = self._first(workflow, watch) if started.created else self._any(workflow.id, 0)
            members, status = await self._events(workflow.id, 0, workflow.status, wait)
        try:
            if self._result and not workflow.status.terminal:
                left = max(0.0, until - monotonic())
                workflow = await attended(self._request, self._request.runtime.views.result(workflow.id, left), left)
            elif status not in (None, workflow.status):
                workflow = await self._request.runtime.views.workflow(workflow.id)
        except (Unavailable, WorkflowNotFound):
            pass
        return workflow, members

    async def after_send(self, message: Message) -> tuple[str, Status | None]:
        """The text of the member `events`, and the workflow's status then if it can be known."""
        if self._keys:
            wait = self._any(message.workflow_id, message.event_position)
            return await self._events(message.workflow_id, message.event_position, Status.RUNNING, wait)
        try:
            return "", (await self._request.runtime.views.workflow(message.workflow_id)).status
        except (Unavailable, WorkflowNotFound):
            return "", None

    def _first(self, workflow: Workflow, watch: Watch) -> Coroutine[Any, Any, Reading]:
        mode = views.Mode(self._mode)
        return self._request.runtime.views.first_events(watch, workflow, self._keys, mode=mode, timeout=self.seconds)

    def _any(self, id: WorkflowId, after: int) -> Coroutine[Any, Any, Reading]:
        mode = views.Mode(self._mode)
        return self._request.runtime.views.events(id, self._keys, mode=mode, after=after, timeout=self.seconds)

    async def _events(
        self, workflow_id: WorkflowId, after: int, status: Status, wait: Coroutine[Any, Any, Reading]
    ) -> tuple[str, Status | None]:
        """The text of the member, and the status if it was read: `status` is what was known of it before."""
        found: dict[str, Event | None] = {}
        read: Status | None = None
        try:
            reading = await attended(self._request, wait, self.seconds)
            found, status = reading.events, reading.status
            read = status
        except (Unavailable, WorkflowNotFound):
            pass
        members = (
            f"{render.quote(key)}:"
            + render.event(workflow_id, key, found.get(key), status, render.state(found.get(key), after, status))
            for key in self._keys
        )
        return f',"events":{{{",".join(members)}}}', read
