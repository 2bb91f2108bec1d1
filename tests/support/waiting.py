"""Wait for a condition, never for a while."""

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))
"""How much of its time a test takes before it gives up: less where it is expected to fail."""


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]], timeout: float = ..., message: str | Callable[[], str] = ...
) -> T: ...
@overload
async def eventually(condition: Callable[[], T], timeout: float = ..., message: str | Callable[[], str] = ...) -> T: ...
async def eventually(condition: Callable[[], Any], timeout: float = 10.0, message: str | Callable[[], str] = "") -> Any:
    """Return what `condition` (a plain or an async function) returns, as soon as that is true."""
    deadline = time.monotonic() + timeout * PATIENCE
    pause = 0.001
    while True:
        outcome = condition()
        value = await outcome if inspect.isawaitable(outcome) else outcome
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_told(message, condition, timeout))
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)


def eventually_sync(condition: Callable[[], T], timeout: float = 10.0, message: str | Callable[[], str] = "") -> T:
    """The same for tests that have no event loop."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_told(message, condition, timeout))
        time.sleep(0.01)
    return value


def _told(message: str | Callable[[], str], condition: Callable[..., object], timeout: float) -> str:
    told = message() if callable(message) else message
    return f"{told or getattr(condition, '__name__', 'the condition')}: still not so after {timeout * PATIENCE:g} s"
