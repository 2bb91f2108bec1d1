"""What steps and transactions get for the context."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

import httpx

from app import telemetry
from app.authoring import Definition, checks, codecs
from app.authoring.context import Logger
from app.authoring.inside import NO_EVENT, NO_HTTP, NOT_IN_THREADS, InsideStep
from app.engine.outbound import Outbound
from app.engine.run import Run
from app.errors import AuthoringError
from app.model import JsonText

_ANYTHING = codecs.of(Any)


class StepContext(InsideStep):
    """What a step is given for the context: events, its key, HTTP and the log; nothing durable."""

    def __init__(self, run: Run, outbound: Outbound, seq: int) -> None:
        super().__init__(run.id, seq)
        self._run, self._outbound = run, outbound
        self._loop = asyncio.get_running_loop()

    def set_event(self, key: str, value: Any) -> Awaitable[None]:
        text = event_text(self._run.definition, key, value)
        if not self._on_loop():
            return self._from_thread(key, text)
        return self._run.publish_in_step(key, text, self._seq)

    def _from_thread(self, key: str, text: JsonText) -> Awaitable[None]:
        """The thread waits for the commit: a fast step can't run ahead of a slow database."""

        async def publish() -> None:
            await self._run.publish_in_step(key, text, self._seq)

        asyncio.run_coroutine_threadsafe(publish(), self._loop).result()
        return GiveWay(False)

    @property
    def http(self) -> httpx.AsyncClient:
        if not self._on_loop():
            raise AuthoringError(NOT_IN_THREADS)
        return self._outbound.client(self.idempotency_key)

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    @property
    def logger(self) -> Logger:
        bound: Logger = telemetry.logger("workflow").bind(workflow_id=self._run.id, step=self._seq)
        return bound


class TransactionContext(StepContext):
    """What a transaction is given: nothing that would outlive its rollback, or be waited for under its locks."""

    def set_event(self, key: str, value: Any) -> Awaitable[None]:
        raise AuthoringError(NO_EVENT)

    @property
    def http(self) -> httpx.AsyncClient:
        raise AuthoringError(NO_HTTP)


class GiveWay:
    """What an event set by a workflow returns: awaiting it now and then gives the others a turn."""

    def __init__(self, yields: bool) -> None:
        self._yields = yields

    def __await__(self) -> Generator[None, None, None]:
        if self._yields:
            yield


def event_text(definition: Definition, key: str, value: Any) -> JsonText:
    """The text of an event's value; raises AuthoringError or InvalidRequest in the author's line."""
    checks.event_key(key)
    return definition.events.get(key, _ANYTHING).encode(value)
