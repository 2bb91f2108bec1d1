"""What is read: at once, or when there is something to read.

A waiting read registers with the hub, looks, and waits; it holds no connection and no thread. What wakes it is a reason
to look again; only when it was a commit of this process that has set all that is waited for, there is nothing left to
look for. A workflow that runs here gets a moment to set what it has not set yet, before the first look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

from app.engine.hub import ANY, END, Commit, Hub, Watch
from app.engine.lookup import Lookup
from app.engine.points import around
from app.errors import DatabaseUnavailable
from app.model import Event, JsonText, Message, Status, Step, Workflow, WorkflowId
from app.patience import within
from app.store import db, events, messages, steps, workflows
from app.store.workflows import Cursor, Filter, Glance

PAGE_BYTES = 8 * 1_048_576
"""Values on one page, about."""
LAST_LOOK = 0.25
"""Seconds that the read at the end of a wait may take."""
HEAD_START = 0.05
"""Seconds for which a workflow that runs here may spare the first look for what it has not set yet."""
PAUSE = 0.2
"""Seconds between reads of a waiting request while the database is away."""

T = TypeVar("T")


class Mode(StrEnum):
    ALL = "all"
    ANY = "any"


class Reading(NamedTuple):
    """Where a workflow stands, and the newest set of each key that was asked for (None: never set)."""

    workflow_id: WorkflowId
    run: str
    status: Status
    error: JsonText | None
    position: int
    events: dict[str, Event | None]


@dataclass(frozen=True, slots=True)
class Log:
    """A page of sets. `position` is the workflow's last, of any key; `more`: the page was cut."""

    status: Status
    position: int
    events: list[Event]
    more: bool


class Views:
    def __init__(
        self,
        database: db.Database,
        *,
        lookup: Lookup,
        hub: Hub,
        unset: Callable[[WorkflowId, str], bool],
    ) -> None:
        """`unset`: whether a workflow runs here, and has never set a key as far as that is committed."""
        self._database, self._lookup, self._hub, self._unset = database, lookup, hub, unset

    # ---- one workflow

    async def workflow(self, id: WorkflowId) -> Workflow:
        """Raises WorkflowNotFound, DatabaseUnavailable, as all of these do."""
        return await self._lookup.workflow(id)

    async def result(self, id: WorkflowId, timeout: float) -> Workflow:
        """The workflow when it has ended, or as it stands when `timeout` seconds are over."""
        if timeout > 0:
            with self._hub.watch(id, END) as watch:
                await self._until(
                    watch,
                    timeout,
                    lambda: self._status(id),
                    lambda status: status.terminal,
                    told=lambda commit: commit.status,
                    soon=self._unset(id, END),
                )
        return await self._lookup.workflow(id)

    async def event(self, id: WorkflowId, key: str, *, after: int, timeout: float) -> Reading:
        """Waits until the key is set at a position after `after`, or can't be any more, or the time is up."""
        return await self.events(id, [key], mode=Mode.ALL, after=after, timeout=timeout)

    def watch(self, keys: Sequence[str]) -> Watch:
        """For `first_events`, of a workflow that is still to be started."""
        return self._hub.watch(None, _place(keys))

    async def events(self, id: WorkflowId, keys: Sequence[str], *, mode: Mode, after: int, timeout: float) -> Reading:
        """Waits until all (or any) of the keys are set after `after`, or that can't come, or the time is up."""
        unset = any if mode is Mode.ALL else all
        with self._hub.watch(id, _place(keys)) as watch:
            return await self._until(
                watch,
                timeout,
                lambda: self._read(id, keys),
                lambda reading: _decided(reading, keys, mode, after),
                told=lambda commit: _told(id, keys, commit),
                soon=unset(self._unset(id, key) for key in keys),
            )

    async def first_events(
        self, watch: Watch, workflow: Workflow, keys: Sequence[str], *, mode: Mode, timeout: float
    ) -> Reading:
        """The same for a workflow that was just started, while `watch` was on: it had set nothing then."""
        return await self._until(
            watch,
            timeout,
            lambda: self._read(workflow.id, keys),
            lambda reading: _decided(reading, keys, mode, 0),
            told=lambda commit: _told(workflow.id, keys, commit),
            seen=Reading(workflow.id, workflow.run, workflow.status, None, 0, dict.fromkeys(keys)),
        )

    async def board(self, id: WorkflowId, *, after_key: str | None, limit: int) -> Log:
        """The newest set of every key, by key, from after a key on."""
        glance = await self._lookup.glance(id)
        async with self._database.transaction() as connection:
            read = events.board(connection, id, after=after_key or "", limit=limit + 1)
            found = await around("views.board", read)
        return _page(glance, found, limit)

    async def history(self, id: WorkflowId, *, after: int, keys: Sequence[str], limit: int, timeout: float) -> Log:
        """The sets from after a position on; waits while there is none and the workflow is active."""

        scanned = after

        async def look() -> Log:
            nonlocal scanned
            glance = await self._lookup.glance(id)
            if glance.position <= scanned:
                return Log(glance.status, glance.position, [], False)
            async with self._database.transaction() as connection:
                read = events.log(connection, id, after=scanned, keys=keys, limit=limit + 1)
                found = await around("views.log", read)
            if not found:
                # Sets of other keys: the next look need not go over them again.
                scanned = glance.position
            return _page(glance, found, limit)

        with self._hub.watch(id) as watch:
            return await self._until(watch, timeout, look, lambda log: bool(log.events) or log.status.terminal)

    async def steps(self, id: WorkflowId, *, after: int, limit: int) -> tuple[list[Step], bool]:
        """Steps in the order of their calls; and whether the page was cut."""
        await self._lookup.workflow(id)
        async with self._database.transaction() as connection:
            found = await around("views.steps", steps.page(connection, id, after=after, limit=limit + 1))
        return _cut(found, limit, lambda step: len(step.output or "") + len(step.error or ""))

    async def messages(
        self, id: WorkflowId, *, topic: str | None, after: int, limit: int
    ) -> tuple[list[Message], bool]:
        """Messages in the order of their acceptance; and whether the page was cut."""
        await self._lookup.workflow(id)
        async with self._database.transaction() as connection:
            read = messages.page(connection, id, topic=topic, after=after, limit=limit + 1)
            found = await around("views.messages", read)
        return _cut(found, limit, lambda message: len(message.payload))

    # ---- many

    async def workflows(
        self, only: Filter, *, after: Cursor | None, limit: int, include: frozenset[str]
    ) -> tuple[list[Workflow], Cursor | None]:
        """A page by (created_at, id), and where the next one begins; it may be empty and not the last."""
        read = workflows.listing(self._database, only, after=after, limit=limit, include=include)
        found, next = await around("views.listing", read)
        page, cut = _cut(found, limit, lambda w: len(w.input or "") + len(w.output or "") + len(w.error or ""))
        return page, (page[-1].created_at, page[-1].id) if cut else next

    # ---- waiting

    async def _status(self, id: WorkflowId) -> Status:
        return (await self._lookup.glance(id)).status

    async def _read(self, id: WorkflowId, keys: Sequence[str]) -> Reading:
        glances = await self._lookup.glances(id, keys)
        one = glances[0]
        found = {key: glance.event for key, glance in zip(keys, glances, strict=True)}
        return Reading(id, one.run, one.status, one.error, one.position, found)

    async def _until(
        self,
        watch: Watch,
        timeout: float,
        look: Callable[[], Awaitable[T]],
        enough: Callable[[T], bool],
        *,
        told: Callable[[Commit], T | None] | None = None,
        seen: T | None = None,
        soon: bool = False,
    ) -> T:
        """`seen` is what was seen since the watch is on, if anything was; `told` is what a look would see that was made
        at a commit, as far as that alone tells; `soon`: a look would find nothing, and a commit may be on its way."""
        # Not the loop's clock, which stands still while the loop is busy: by that one it would end too early.
        end = time.monotonic() + timeout
        if soon and timeout > 0 and not self._hub.draining:
            await watch.wait(min(timeout, HEAD_START))
            seen = told(watch.commit) if told and watch.commit else None
        seen = seen or await look()
        while not enough(seen):
            left = end - time.monotonic()
            if timeout <= 0 or self._hub.draining:
                return seen
            # A timer may ring a little early too; then it is waited again.
            if left <= 0 or not (await watch.wait(left) or time.monotonic() < end) or self._hub.draining:
                return await self._last_look(look)
            by_commit = told(watch.commit) if told and watch.commit else None
            seen = by_commit or await self._patiently(look, watch, end) or seen
        return seen

    async def _patiently(self, look: Callable[[], Awaitable[T]], watch: Watch, end: float) -> T | None:
        """Look again; None when the database is away, after a pause: whoever waits goes on waiting."""
        try:
            return await look()
        except DatabaseUnavailable:
            watch.wake()
            await asyncio.sleep(max(0.0, min(PAUSE, end - time.monotonic())))
            return None

    async def _last_look(self, look: Callable[[], Awaitable[T]]) -> T:
        """The answer when the time is up is a read made after that moment, or none at all."""
        try:
            async with within(LAST_LOOK):
                return await look()
        except TimeoutError:
            raise DatabaseUnavailable from None


def _decided(reading: Reading, keys: Sequence[str], mode: Mode, after: int) -> bool:
    """Whether the answer can't change any more by waiting."""
    if reading.status.terminal:
        return True
    enough = mode is not Mode.ALL
    for key in keys:
        event = reading.events[key]
        if (event is not None and event.position > after) is enough:
            return enough
    return not enough


def _place(keys: Sequence[str]) -> str:
    """Where to be woken by sets of these keys."""
    return keys[0] if len(keys) == 1 else ANY


def _told(id: WorkflowId, keys: Sequence[str], commit: Commit) -> Reading | None:
    """Where the workflow stood with a commit that has set all of the keys."""
    if not all(key in commit.events for key in keys):
        return None
    events: dict[str, Event | None] = {key: commit.events[key] for key in keys}
    return Reading(id, commit.run, commit.status, commit.error, commit.position, events)


def _page(glance: Glance, found: list[Event], limit: int) -> Log:
    page, more = _cut(found, limit, lambda event: len(event.value))
    # The page was read after the glance, so it may know of more.
    return Log(glance.status, max([glance.position, *(event.position for event in page)]), page, more)


def _cut(found: list[T], limit: int, size: Callable[[T], int]) -> tuple[list[T], bool]:
    """As many as the limit and the size of a page allow, at least one; and whether there are more."""
    total = 0
    for n, item in enumerate(found[:limit]):
        total += size(item)
        if n and total > PAGE_BYTES:
            return found[:n], True
    return found[:limit], len(found) > limit
