"""Named points at which a test may crash or pause the engine. In production each costs one check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Hook = Callable[[str], Awaitable[None]]

_hook: Hook | None = None


def install(hook: Hook | None) -> None:
    """Have every point call this; None: nothing again."""
    global _hook  # noqa: PLW0603 - one process is under test at a time
    _hook = hook


async def point(name: str) -> None:
    if _hook is not None:
        await _hook(name)
