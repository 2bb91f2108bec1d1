"""Background tasks that nobody awaits: held here until they end, and heard when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from app import telemetry
from app.errors import DatabaseUnavailable

log = telemetry.logger(__name__)

RETRY_PAUSE = 0.2
"""Seconds between tries of what only the database keeps from going through."""

_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
    """Run a coroutine on the running loop. The event loop itself holds tasks by weak references only."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    keep(task)
    return task


def keep(task: asyncio.Task[Any]) -> None:
    """Hold a task until it has ended, whoever else has forgotten it."""
    _running.add(task)
    task.add_done_callback(_ended)


async def insist(do: Callable[[], Awaitable[None]]) -> None:
    """Do what must not be left undone because the database was away just then."""
    while True:
        try:
            return await do()
        except DatabaseUnavailable:
            await asyncio.sleep(RETRY_PAUSE)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background task failed", task=task.get_name(), error=repr(error), exc_info=error)
