"""Many small questions, one round trip: what is asked while an answer is on its way goes out together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.engine import tasks

GRACE = 0.05
"""Seconds for a last look, before it counts that nobody was answered."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batch(Generic[Item, Answer]):
    """Collects items while a flush is under way; `flush` answers them in order, or raises for all of them."""

    def __init__(self, name: str, flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], limit: int) -> None:
        self._name, self._flush, self._limit = name, flush, limit
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._running = False
        self._answered_at = float("-inf")

    async def ask(self, item: Item, patience: float | None = None) -> Answer:
        """The answer to one item. Safe to cancel: what nobody waits for any more isn't asked.

        Raises TimeoutError when nobody was answered for `patience` seconds (None: never). To stand in a long
        queue that moves is no reason to give up.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if not self._running:
            self._running = True
            tasks.spawn(self._run(), name=self._name)
        timer = None if patience is None else loop.call_later(patience, self._give_up, future, patience, True)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()

    def _give_up(self, future: asyncio.Future[Answer], patience: float, again: bool) -> None:
        loop = asyncio.get_running_loop()
        if future.done():
            return
        if (quiet := loop.time() - self._answered_at) < patience:
            loop.call_later(patience - quiet, self._give_up, future, patience, True)
        elif again:
            # This process may have been busy itself, with an answer there that nobody has read yet.
            loop.call_later(GRACE, self._give_up, future, patience, False)
        else:
            future.set_exception(TimeoutError("nobody was answered in time"))

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
        self._answered_at = asyncio.get_running_loop().time()
        for (_, future), answer in zip(taken, answers, strict=True):
            if not future.done():
                future.set_result(answer)
