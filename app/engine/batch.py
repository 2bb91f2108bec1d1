"""Many small questions, one round trip: what is asked while an answer is on its way goes out together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.engine import tasks

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batch(Generic[Item, Answer]):
    """Collects items while a flush is under way; `flush` answers them in order, or raises for all of them."""

    def __init__(self, name: str, flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], limit: int) -> None:
        self._name, self._flush, self._limit = name, flush, limit
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._running = False

    async def ask(self, item: Item) -> Answer:
        """The answer to one item. Safe to cancel: what nobody waits for any more isn't asked."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._running:
            self._running = True
            tasks.spawn(self._run(), name=self._name)
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                taken = [(item, future) for item, future in taken if not future.done()]
                if taken:
                    await self._one(taken)
        finally:
            self._running = False

    async def _one(self, taken: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._flush([item for item, _ in taken])
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(taken, answers, strict=True):
            if not future.done():
                future.set_result(answer)
