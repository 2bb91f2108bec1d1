"""Messages on one topic, handed to the receives of one workflow: first in, first out, each to one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from app.engine import tasks
from app.engine.hub import INBOX, Hub
from app.engine.lookup import Lookup
from app.engine.points import point
from app.errors import DatabaseUnavailable
from app.model import JsonText, WorkflowId

UNSEEN = -1
"""Stands for a number of messages while some of them may not have been read."""
PAUSE = 0.2
"""Seconds between reads while the database is away."""


@dataclass(frozen=True, slots=True)
class Found:
    position: int
    payload: JsonText


class Mailbox:
    """Reads while somebody takes. What was found and not taken stays for the next taker."""

    def __init__(
        self, id: WorkflowId, topic: str, *, hub: Hub, lookup: Lookup, counted: Callable[[str, int], None]
    ) -> None:
        """`counted` is told how many messages the workflow had had when none was left on the topic, or UNSEEN."""
        self._id, self._topic = id, topic
        self._hub, self._lookup, self._counted = hub, lookup, counted
        self._found: dict[int, Found] = {}
        self._given: dict[int, Found] = {}
        self._last = 0
        self._takers: dict[int, Callable[[Found], None]] = {}
        self._task: asyncio.Task[None] | None = None

    def take(self, seq: int, taker: Callable[[Found], None]) -> None:
        """Call `taker` with the next message; of several takers the one with the least `seq` comes first."""
        self._takers[seq] = taker
        self._deal()
        if self._takers and self._task is None:
            self._task = tasks.spawn(self._read(), name=f"mail of {self._id}")

    def leave(self, seq: int) -> None:
        self._takers.pop(seq, None)
        if not self._takers and self._task is not None:
            self._task.cancel()
            self._task = None

    def dealt(self, position: int, *, kept: bool) -> None:
        """A message was given to the workflow's code; or it had given the receive up, and the next one has it."""
        found = self._given.pop(position)
        if not kept:
            self._found[position] = found
            self._deal()

    def _deal(self) -> None:
        while self._found and self._takers:
            found = self._found.pop(min(self._found))
            self._given[found.position] = found
            self._takers.pop(min(self._takers))(found)

    async def _read(self) -> None:
        with self._hub.watch(self._id, INBOX) as watch:
            while self._takers:
                try:
                    found = await self._look()
                except DatabaseUnavailable:
                    await watch.wait(PAUSE)
                else:
                    if not found:
                        await watch.wait()
        self._task = None

    async def last_look(self, seq: int) -> bool:
        """Whether there is nothing for a taker, by a read that was begun after this call."""
        while seq in self._takers:
            try:
                if not await self._look():
                    return seq in self._takers
            except DatabaseUnavailable:
                await asyncio.sleep(PAUSE)
        return False

    async def _look(self) -> bool:
        """Read once, and deal; whether there was a message."""
        await point("mailbox.before_read")
        unread = await self._lookup.unread(self._id, self._topic, self._last)
        if unread is None or unread.position is None or unread.payload is None:
            if unread is not None:
                self._counted(self._topic, unread.inbox)
            return False
        # There may be more: only a read that finds nothing tells that all there is was seen.
        self._counted(self._topic, UNSEEN)
        # Two reads at once may find the same one.
        if unread.position > self._last:
            self._last = unread.position
            self._found[unread.position] = Found(unread.position, unread.payload)
            self._deal()
        return True
