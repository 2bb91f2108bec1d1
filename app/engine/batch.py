"""Many small questions, one round trip: what is asked while an answer is on its way goes out together.

What the database refuses is divided until the guilty one stands alone, so nobody is refused for another's sake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.engine import tasks
from app.patience import Limit, Vigil
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
        patience: float | None = None,
        turn: float | None = None,
        size: Callable[[Item], int] = lambda _: 0,
        most: int = 0,
        alike: Callable[[Item], Hashable] = lambda _: None,
    ) -> None:
        """What goes out together is `alike`: `limit` items at most, and no more once their sizes are beyond `most`.

        Whoever asks gives up when nobody was answered for `patience` seconds (None: never). To stand in a long queue
        that moves is no reason to give up, unless it is not one's turn after `turn` seconds.
        """
        self._name, self._flush, self._limit, self._size, self._most = name, flush, limit, size, most
        self._vigil = None if patience is None else Vigil(patience, _give_up)
        self._turn, self._alike = turn, alike
        self._waiting: dict[Hashable, deque[_Asked[Item, Answer]]] = {}
        """By what makes them alike; those who have waited longest for their turn first."""
        self._running = False

    async def ask(self, item: Item) -> Answer:
        """The answer to one item; raises TimeoutError. Safe to cancel: what nobody waits for any more isn't asked."""
        asked: _Asked[Item, Answer] = _Asked(item, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(self._alike(item), deque()).append(asked)
        if not self._running:
            self._running = True
            tasks.spawn(self._run(), name=self._name)
        if self._vigil is None:
            return await asked.future
        turn = None if self._turn is None else Limit(self._turn, lambda: None if asked.sent else _give_up(asked))
        self._vigil.enter(asked)
        try:
            return await asked.future
        finally:
            self._vigil.leave(asked)
            if turn is not None:
                turn.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                if taken := self._take():
                    await self._one(taken)
        finally:
            self._running = False

    def _take(self) -> list[_Asked[Item, Answer]]:
        """As many as one flush takes, in the order in which they were asked."""
        kind = next(iter(self._waiting))
        queue = self._waiting.pop(kind)
        taken: list[_Asked[Item, Answer]] = []
        size = 0
        while queue and len(taken) < self._limit and size <= self._most:
            asked = queue.popleft()
            if not asked.future.done():
                taken.append(asked)
                size += self._size(asked.item)
        if queue:
            # The others' turn comes first.
            self._waiting[kind] = queue
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
        if self._vigil is not None:
            self._vigil.answered()
        for asked, answer in zip(taken, answers, strict=True):
            if not asked.future.done():
                asked.future.set_result(answer)


def _give_up(asked: _Asked[Any, Any]) -> None:
    if not asked.future.done():
        asked.future.set_exception(TimeoutError("nobody was answered in time"))
