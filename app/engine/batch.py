"""Many small questions, one round trip: what is asked while an answer is on its way goes out together.

What the database refuses is divided until the guilty one stands alone, so nobody is refused for another's sake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.engine import tasks
from app.patience import Limit
from app.store import db

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Asked(Generic[Item, Answer]):
    item: Item
    future: asyncio.Future[Answer]
    sent: bool = False


class Batch(Generic[Item, Answer]):
    """Collects items while a flush is under way; `flush` answers them in order, or raises for all of them."""

    def __init__(
        self,
        name: str,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        limit: int,
        *,
        size: Callable[[Item], int] = lambda _: 0,
        most: int = 0,
        alike: Callable[[Item], object] = lambda _: None,
    ) -> None:
        """What goes out together is `alike`: `limit` items at most, and no more once their sizes are beyond `most`."""
        self._name, self._flush, self._limit, self._size, self._most = name, flush, limit, size, most
        self._alike = alike
        self._waiting: list[_Asked[Item, Answer]] = []
        self._running = False
        self._answered_at = float("-inf")

    async def ask(self, item: Item, patience: float | None = None, *, turn: float | None = None) -> Answer:
        """The answer to one item. Safe to cancel: what nobody waits for any more isn't asked.

        Raises TimeoutError when nobody was answered for `patience` seconds (None: never). To stand in a long
        queue that moves is no reason to give up, unless it is not one's `turn` after so many seconds.
        """
        loop = asyncio.get_running_loop()
        asked: _Asked[Item, Answer] = _Asked(item, loop.create_future())
        self._waiting.append(asked)
        if not self._running:
            self._running = True
            tasks.spawn(self._run(), name=self._name)
        limits: list[Limit] = []

        def look() -> None:
            if (quiet := loop.time() - self._answered_at) >= (patience or 0):
                _give_up(asked)
            else:
                limits.append(Limit((patience or 0) - quiet, look))

        if patience is not None:
            limits.append(Limit(patience, look))
        if turn is not None:
            limits.append(Limit(turn, lambda: None if asked.sent else _give_up(asked)))
        try:
            return await asked.future
        finally:
            for limit in limits:
                limit.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                if taken := self._take():
                    await self._one(taken)
        finally:
            self._running = False

    def _take(self) -> list[_Asked[Item, Answer]]:
        """As many as one flush takes; in the order in which they were asked, as are the others that stay."""
        taken: list[_Asked[Item, Answer]] = []
        left: list[_Asked[Item, Answer]] = []
        size = 0
        for asked in self._waiting:
            if asked.future.done():
                continue
            full = len(taken) == self._limit or size > self._most
            if full or (taken and self._alike(asked.item) != self._alike(taken[0].item)):
                left.append(asked)
            else:
                taken.append(asked)
                size += self._size(asked.item)
        self._waiting = left
        return taken

    async def _one(self, taken: Sequence[_Asked[Item, Answer]]) -> None:
        for asked in taken:
            asked.sent = True
        try:
            answers = await self._flush([asked.item for asked in taken])
        except Exception as error:
            if len(taken) > 1 and db.refused(error):
                middle = len(taken) // 2
                await self._one(taken[:middle])
                await self._one(taken[middle:])
                return
            for asked in taken:
                if not asked.future.done():
                    asked.future.set_exception(error)
            return
        self._answered_at = asyncio.get_running_loop().time()
        for asked, answer in zip(taken, answers, strict=True):
            if not asked.future.done():
                asked.future.set_result(answer)


def _give_up(asked: _Asked[Item, Answer]) -> None:
    if not asked.future.done():
        asked.future.set_exception(TimeoutError("nobody was answered in time"))
