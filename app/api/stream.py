"""A workflow's log as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api import render
from app.api.request import ONLY_LOOKS, Request
from app.api.schemas.events import StreamQuery
from app.api.waiting import attended
from app.errors import Unavailable, WorkflowNotFound
from app.model import Event, Status, WorkflowId

COMMENT_SECONDS = 15.0
"""Something is sent at least so often, for the sake of proxies that close what is silent."""
BATCH = 100
RETRY = "retry: 2000\n\n"
COMMENT = ":\n\n"


class EventStream(Response):
    """Sends what there is and what comes, then the workflow's end, and closes."""

    media_type = "text/event-stream"

    def __init__(
        self, request: Request, workflow_id: WorkflowId, after: int, query: StreamQuery, status: Status
    ) -> None:
        headers = {"Workflow-Status": status, "X-Accel-Buffering": "no"}
        super().__init__(None, 200, headers)
        self._request, self._id, self._position = request, workflow_id, after
        self._keys, self._names = query.key, query.names

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers(headers)
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._request.runtime.hub.seat():
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if ONLY_LOOKS not in scope:
                async for chunk in self._chunks():
                    await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _chunks(self) -> AsyncIterator[str]:
        views = self._request.runtime.views
        yield RETRY
        while True:
            try:
                wait = views.history(
                    self._id, after=self._position, keys=self._keys, limit=BATCH, timeout=COMMENT_SECONDS
                )
                log = await attended(self._request, wait)
                if log.events:
                    yield "".join(self._event(event, log.status) for event in log.events)
                    self._position = log.events[-1].position
                if log.more:
                    continue
                self._position = max(self._position, log.position)
                if log.status.terminal:
                    workflow = await views.workflow(self._id)
                    # Between two looks it may have been resumed, have published more, and have ended again.
                    again = await views.history(self._id, after=log.position, keys=self._keys, limit=1, timeout=0)
                    if workflow.status.terminal and again.position == log.position:
                        yield f"id: {log.position}.end\nevent: $end\ndata: {render.workflow(workflow)}\n\n"
                        return
                elif not log.events:
                    yield COMMENT
            except WorkflowNotFound:
                return
            except Unavailable:
                yield COMMENT
                await attended(self._request, asyncio.sleep(1))
            if self._request.runtime.draining:
                return

    def _event(self, event: Event, status: Status) -> str:
        named = f"event: {event.key}\n" if self._names else ""
        return f"id: {event.position}\n{named}data: {render.event(self._id, event.key, event, status)}\n\n"
