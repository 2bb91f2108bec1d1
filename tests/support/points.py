"""The engine's named points in the hands of a test: hold whoever comes by, or have something happen there."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from app.engine import points
from tests.support.waiting import PATIENCE


class Gate:
    """Holds whoever comes by until it is opened."""

    def __init__(self) -> None:
        self._reached, self._open = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self._reached.set()
        async with asyncio.timeout(20 * PATIENCE):
            await self._open.wait()

    async def reached(self) -> None:
        async with asyncio.timeout(10 * PATIENCE):
            await self._reached.wait()

    def open(self) -> None:
        self._open.set()


@contextmanager
def at(**given: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Whenever a point is passed (`journal__before_flush` for "journal.before_flush"), do something: what it
    raises, the engine gets."""
    doing = {name.replace("__", "."): do for name, do in given.items()}

    async def hook(point: str) -> None:
        if (do := doing.get(point)) is not None:
            await do()

    points.install(hook)
    try:
        yield
    finally:
        points.install(None)
        for do in given.values():
            if isinstance(do, Gate):
                do.open()


def once(*errors: BaseException) -> Callable[[], Awaitable[None]]:
    """Raises these, one each time; after that nothing happens any more."""
    left = list(errors)

    async def do() -> None:
        if left:
            raise left.pop(0)

    return do
