"""The journal's mirror for reads: what is asked for together goes out as one statement."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from app.engine.batch import Batch
from app.engine.points import around
from app.errors import WorkflowNotFound
from app.model import ExecutorId, Status, Workflow, WorkflowId
from app.patience import PATIENCE, within
from app.store import db, messages, steps, workflows

LIMIT = 1_000
"""Questions in one statement."""
WHOLE = 50
"""Whole workflows in one statement: each may have megabytes of input and output."""


class Lookup:
    def __init__(self, database: db.Database) -> None:
        self._line = db.Line(database, "lookup", settings=db.PLANNED_ONCE)
        # Marking a workflow waits for its row, which reads must not.
        self._marks = db.Line(database, "watch", settings=db.PLANNED_ONCE)
        self._glances = Batch("glances", self._glance_all, LIMIT, patience=PATIENCE)
        self._rows = Batch("rows", self._get_all, WHOLE, patience=PATIENCE)
        self._unread = Batch("unread", self._unread_all, LIMIT)
        self._watches = Batch("watches", self._watch_all, LIMIT)

    async def open(self) -> None:
        """Connect. Raises what the driver raises."""
        await self._line.open()

    async def glance(self, id: WorkflowId, key: str = "") -> workflows.Glance:
        """Where a workflow stands, and its newest set of a key. Raises WorkflowNotFound, DatabaseUnavailable."""
        return (await self.glances(id, (key,)))[0]

    async def glances(self, id: WorkflowId, keys: Sequence[str]) -> list[workflows.Glance]:
        """The same for several keys, all as of one moment."""
        async with db.available():
            found = await self._glances.ask((id, keys))
        if found is None:
            raise WorkflowNotFound
        return found

    async def find(self, id: WorkflowId) -> tuple[Workflow, bytes] | None:
        """A workflow and the digest of its input. Raises DatabaseUnavailable."""
        async with db.available():
            return await self._rows.ask(id)

    async def workflow(self, id: WorkflowId) -> Workflow:
        found = await self.find(id)
        if found is None:
            raise WorkflowNotFound
        return found[0]

    async def unread(self, id: WorkflowId, topic: str, after: int) -> messages.Unread | None:
        """The next unread message on a topic; None when the workflow is gone."""
        async with db.available():
            return await self._unread.ask((id, topic, after))

    async def watch(self, id: WorkflowId) -> Status | None:
        """Have the next commit of a workflow tell that it is waited for; its status now, None: it is gone."""
        async with db.available():
            return await self._watches.ask(id)

    async def recorded(self, id: WorkflowId, step: steps.Recorded) -> bool:
        """Whether a step whose commit was not answered is there."""
        async with db.available():
            # The commit may still be under way. It holds the workflow's row, so whoever gets that sees what became
            # of it: in the next statement, for this one's snapshot may be older.
            await around("lookup.hold", workflows.watch(self._marks, [id]))
            return await around("lookup.recorded", steps.recorded(self._marks, id, step))

    async def owned(self, pairs: Sequence[tuple[WorkflowId, int]], executor: ExecutorId) -> set[str]:
        """Which of these (id, generation) an executor runs, by the table."""
        async with db.available(), within(PATIENCE):
            return await around("lookup.owned", workflows.owned(self._line, pairs, executor))

    async def close(self) -> None:
        await self._line.close()
        await self._marks.close()

    async def _glance_all(
        self, wanted: Sequence[tuple[WorkflowId, Sequence[str]]]
    ) -> Sequence[list[workflows.Glance] | None]:
        places = [(id, key) for id, keys in wanted for key in keys]
        seen = iter(await around("lookup.glance", workflows.glance(self._line, places)))
        answers = [[glance for glance in islice(seen, len(keys)) if glance is not None] for _, keys in wanted]
        return [answer or None for answer in answers]

    async def _get_all(self, ids: Sequence[str]) -> Sequence[tuple[Workflow, bytes] | None]:
        return await around("lookup.get", workflows.get(self._line, ids))

    async def _unread_all(self, wanted: Sequence[tuple[str, str, int]]) -> Sequence[messages.Unread | None]:
        return await around("lookup.unread", messages.unread(self._line, wanted))

    async def _watch_all(self, ids: Sequence[str]) -> Sequence[Status | None]:
        found = await around("lookup.watch", workflows.watch(self._marks, ids))
        return [found.get(id) for id in ids]
