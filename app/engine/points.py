"""Named points at which a test may crash or pause the engine. In production each costs one check.

Every statement that the engine sends to the database stands between two of them, and so does every commit of a
transaction: `mail.before_lock` and `mail.after_lock`, say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

Hook = Callable[[str], Awaitable[None]]

_hook: Hook | None = None


def install(hook: Hook | None) -> None:
    """Have every point call this; None: nothing again."""
    global _hook  # noqa: PLW0603 - one process is under test at a time
    _hook = hook


async def point(name: str) -> None:
    if _hook is not None:
        await _hook(name)


async def around(name: str, statement: Coroutine[Any, Any, T]) -> T:
    """Carry a statement out between two points: for `mail.lock` they are `mail.before_lock` and `mail.after_lock`."""
    if _hook is None:
        return await statement
    part, what = name.split(".")
    try:
        await _hook(f"{part}.before_{what}")
    except BaseException:
        statement.close()
        raise
    answer = await statement
    await point(f"{part}.after_{what}")
    return answer
