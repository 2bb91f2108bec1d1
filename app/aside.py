"""Work on large values, aside from the event loop.

To read or write a mebibyte of JSON takes tens of milliseconds, and to say what is wrong with it hundreds. In
a thread that takes no less, but others are answered meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LARGE: Final = 65_536
"""Bytes or characters from which on a thread is worth its while: below, all is done in a millisecond or two."""


async def work(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns; `size` is that of the value it works on."""
    if size < LARGE:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
