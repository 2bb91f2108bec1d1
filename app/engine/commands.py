"""What is done to workflows: each command returns when it is committed."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from app import aside, values
from app.authoring import Definition, Registry
from app.engine import tasks
from app.engine.entries import complete
from app.engine.executor import Executor
from app.engine.hub import INBOX
from app.engine.journal import Journal
from app.engine.lookup import Lookup
from app.engine.mail import Letter, Mail, Sent, Source
from app.engine.points import around, point
from app.engine.run import Run
from app.errors import (
    CallbackNotFound,
    CallbackUsed,
    Draining,
    Fault,
    IdempotencyConflict,
    InvalidInput,
    InvalidRequest,
    QueueNotFound,
    WorkflowAborted,
    WorkflowActive,
    WorkflowFinished,
    WorkflowIdConflict,
    WorkflowNotFound,
    WorkflowNotRegistered,
)
from app.ids import uuid4, uuid7
from app.model import RESUMABLE, ExecutorId, JsonText, Status, Workflow, WorkflowId
from app.patience import PATIENCE, within
from app.store import db, messages, workflows
from app.store.workflows import Owned

NO_TAGS = JsonText("{}")
_START_KEYS = uuid.UUID("6f0a3d0e-5f7c-5c0a-9d3e-6d696c65706f")
"""Namespace of the ids that stand for idempotency keys of starts (RFC 9562, version 5)."""


Row = Any
"""A row of the journal's answer; `at` is the time of its commit."""


class Start(NamedTuple):
    """A request to start a workflow. `delay` and `timeout` in seconds."""

    name: str
    input: JsonText | None = None
    id: WorkflowId | None = None
    queue: str | None = None
    priority: int = 0
    partition: str | None = None
    deduplication_id: str | None = None
    delay: float = 0.0
    timeout: float | None = None
    tags: Mapping[str, str] = MappingProxyType({})
    traceparent: str | None = None
    idempotency_key: str | None = None
    digest: bytes | None = None
    """Of the input, where whoever asks has it."""


class Started(NamedTuple):
    """A workflow as it stands; not `created`: it was started before."""

    workflow: Workflow
    created: bool


class Commands:
    def __init__(
        self,
        database: db.Database,
        registry: Registry,
        *,
        journal: Journal,
        lookup: Lookup,
        executor: Executor,
        id: Callable[[], ExecutorId],
        published: Callable[[WorkflowId, Collection[str], bool], None],
    ) -> None:
        """`id` is this executor's; `published` is told of what was committed: (workflow, keys, ended)."""
        self._database, self._registry = database, registry
        self._journal, self._lookup, self._executor, self._published = journal, lookup, executor, published
        self._mail = Mail(database, executor=id, arrived=self._arrived)
        self._line = db.Line(database, "callbacks")
        self.draining = False

    # ---- start

    async def start(self, start: Start, named: Callable[[WorkflowId], None] | None = None) -> Started:
        """Raises WorkflowNotRegistered, InvalidInput, QueueNotFound, WorkflowIdConflict, Overloaded, Draining,
        DatabaseUnavailable. An id, or an idempotency key, that is known already is answered before the others.

        `named` is told the id before the workflow can publish anything.
        """
        if self.draining:
            raise Draining
        id = start.id or _derived(start) or WorkflowId(uuid7())
        if named is not None:
            named(id)
        size = len(start.input or "")
        digest = start.digest
        if digest is None:
            digest = await aside.work(size, values.digest_of_text, start.input)
        try:
            definition, arguments = await aside.work(size, self._accept, start)
        except (WorkflowNotRegistered, InvalidInput, QueueNotFound):
            if start.id or start.idempotency_key:
                known = await self._lookup.find(id)
                if known is not None:
                    return _known(known, start.name, digest)
            raise
        while True:
            created = await self._insert(id, start, definition, arguments, digest)
            if created is not None:
                return Started(created, created=True)
            # The id was taken. If it is free again by now, it is this start's after all.
            known = await self._lookup.find(id)
            if known is not None:
                return _known(known, start.name, digest)

    def _accept(self, start: Start) -> tuple[Definition, tuple[Any, ...]]:
        definition = self._registry.newest(start.name)
        if definition is None:
            raise WorkflowNotRegistered(
                f"No workflow is registered under the name {start.name!r}.", registered=self._registry.names()
            )
        arguments = definition.arguments(start.input, pointer="/input")
        if start.queue is not None:
            raise QueueNotFound(f"There is no queue {start.queue!r}.")
        return definition, arguments

    async def _insert(
        self, id: WorkflowId, start: Start, definition: Definition, arguments: tuple[Any, ...], digest: bytes
    ) -> Workflow | None:
        """Commit a new workflow, running here if there is room; None: the id is taken."""
        token = uuid4()
        timeout = start.timeout if start.timeout is not None else definition.timeout
        here = not start.delay and self._executor.reserve()
        status = Status.RUNNING if here else Status.QUEUED
        tags = values.encode(dict(start.tags)) if start.tags else NO_TAGS
        text = _row(
            id,
            definition,
            token,
            status=status,
            input=start.input,
            digest=digest,
            tags=tags,
            timeout=timeout,
            delay=start.delay,
            traceparent=start.traceparent,
        )

        def settled(row: Any) -> None:
            # Whether or not the caller is still there: what is committed as running runs.
            if here:
                self._executor.unreserve()
            if row is not None and here:
                owned = Owned(
                    id,
                    definition.name,
                    definition.version,
                    1,
                    token,
                    start.input,
                    0,
                    1,
                    0,
                    row.at,
                    start.traceparent,
                )
                self._executor.launch(owned, definition, arguments=arguments)
            elif row is not None and not start.delay:
                self._executor.summon()
            elif row is not None:
                self._executor.expect(start.delay)

        try:
            row = await self._journal.start(id, text, settled)
        except db.FAILURES as error:
            if db.refused(error):
                raise InvalidRequest(Fault("the database does not take this start", pointer="")) from error
            raise
        if row is None:
            return None
        at = row.at
        return Workflow(
            id=id,
            run=token[:8],
            name=definition.name,
            version=definition.version,
            status=status,
            input=start.input,
            output=None,
            error=None,
            tags=tags,
            queue=None,
            priority=0,
            partition=None,
            deduplication_id=None,
            parent_id=None,
            forked_from=None,
            schedule=None,
            attempts=1,
            created_at=at,
            started_at=at if here else None,
            updated_at=at,
            completed_at=None,
            deadline=at + timedelta(seconds=timeout) if here and timeout is not None else None,
            wake_at=at + timedelta(seconds=start.delay) if start.delay else None,
        )

    async def start_child(self, run: Run, id: WorkflowId, definition: Definition, input: JsonText | None) -> WorkflowId:
        """Start a child in one commit with its parent's fence; one that this parent started before is the same."""
        digest = values.digest_of_text(input)
        while True:
            await run.lightened()
            birth = run.bear(
                id,
                _row(
                    id,
                    definition,
                    uuid4(),
                    status=Status.QUEUED,
                    input=input,
                    digest=digest,
                    tags=NO_TAGS,
                    timeout=definition.timeout,
                    delay=0,
                    traceparent=None,
                    parent_id=run.id,
                ),
            )
            if await birth.future is not None:
                self._executor.summon()
                return id
            known = await self._lookup.find(id)
            if known is None:
                continue
            child, hashed = known
            if (child.parent_id, child.name, hashed) == (run.id, definition.name, digest):
                return id
            raise WorkflowIdConflict(f"The id {id!r} is taken by a workflow that this one did not start.")

    async def cancel_child(self, id: WorkflowId) -> None:
        try:
            await self.cancel(id, children=True)
        except WorkflowFinished:
            # It has ended in its own way, which is what its result tells.
            return

    # ---- messages

    async def send(
        self, workflow_id: WorkflowId, topic: str, payload: JsonText, idempotency_key: str | None = None
    ) -> Sent:
        """Raises WorkflowNotFound, WorkflowFinished, IdempotencyConflict, DatabaseUnavailable."""
        return await self._mail.send(Letter(workflow_id, topic, payload, idempotency_key))

    async def send_from(self, run: Run, seq: int, target: WorkflowId, topic: str, payload: JsonText) -> None:
        """The same for a workflow, once: its id and the number of the call are the key."""
        # No key from outside has a space in it.
        key = f"$step {run.id} {run.token} {seq}"
        await self._mail.send(Letter(target, topic, payload, key, Source(run.id, run.generation)))

    async def complete_callback(self, token: str, payload: JsonText) -> None:
        """Raises CallbackNotFound, CallbackUsed, WorkflowFinished, DatabaseUnavailable."""
        hashed = hashlib.sha256(token.encode()).digest()
        async with db.available(), within(PATIENCE):
            found = await around("callback.read", messages.callback(self._line, hashed))
        if found is None:
            raise CallbackNotFound
        key = f"$callback {hashed.hex()}"
        try:
            await self._mail.send(Letter(found.workflow_id, found.topic, payload, key))
        except WorkflowNotFound:
            raise CallbackNotFound from None
        except IdempotencyConflict:
            raise CallbackUsed from None

    def _arrived(self, id: WorkflowId, parked: bool) -> None:
        self._published(id, (INBOX,), False)
        if parked:
            self._executor.summon()

    # ---- from outside

    async def cancel(self, id: WorkflowId, *, children: bool = True) -> Workflow:
        """Raises WorkflowNotFound, WorkflowFinished, DatabaseUnavailable."""
        ended: list[workflows.Aborted] = []
        cleanups = False
        async with self._database.transaction() as connection:
            if children:
                await around("cancel.lock", workflows.lock_tree(connection, id))
            abort = workflows.abort_if_active(connection, [(id, None)], Status.CANCELLED, None)
            found, cleanups = await around("cancel.abort", abort)
            ended += found
            # Each level in a statement of its own: children that were started by a commit which the lock
            # waited for are seen by the next one only. A cancelled parent starts no more of them.
            level = [parent.id for parent in found]
            while children and level:
                below = await around("cancel.children", workflows.children(connection, level))
                targets = [(child, None) for child in below]
                abort = workflows.abort_if_active(connection, targets, Status.CANCELLED, None)
                found, more = await around("cancel.abort", abort)
                ended += found
                cleanups = cleanups or more
                level = [child.id for child in found]
            await point("cancel.before_commit")
        await point("cancel.after_commit")
        self.aborted(ended, cleanups=cleanups)
        workflow = await self._lookup.workflow(id)
        if not ended:
            if workflow.status is not Status.CANCELLED:
                raise WorkflowFinished(workflow_status=workflow.status.value)
            # Perhaps by a commit whose answer was lost: then nobody was told.
            self.aborted([workflows.Aborted(id, True)], cleanups=True)
        return workflow

    def aborted(self, ended: Sequence[workflows.Aborted], *, cleanups: bool) -> None:
        """Tell everybody in this process that workflows were ended from outside, or deleted."""
        for workflow in ended:
            self._executor.drop(WorkflowId(workflow.id))
            self._published(WorkflowId(workflow.id), (), True)
        watched = [workflow.id for workflow in ended if workflow.watched]
        if watched:
            tasks.spawn(tasks.insist(lambda: self._executor.wake_watchers(watched, {})), name="wake watchers")
        if cleanups:
            self._executor.summon()

    async def resume(self, id: WorkflowId) -> Workflow:
        """Raises WorkflowNotFound, WorkflowFinished, WorkflowAborted, DatabaseUnavailable."""
        async with self._database.transaction() as connection:
            held = (await around("resume.lock", workflows.lock(connection, [id]))).get(id)
            if held is None:
                raise WorkflowNotFound
            status = held.status
            if status in RESUMABLE:
                if held.abort_name is not None:
                    raise WorkflowAborted(workflow_status=status.value)
                await around("resume.resume", workflows.resume(connection, id))
            elif status is Status.QUEUED:
                await around("resume.hasten", workflows.hasten(connection, id))
            elif status.terminal:
                raise WorkflowFinished(workflow_status=status.value)
            await point("resume.before_commit")
        await point("resume.after_commit")
        if status in RESUMABLE or status is Status.QUEUED:
            self._executor.summon()
        return await self._lookup.workflow(id)

    async def delete(self, id: WorkflowId) -> None:
        """Raises WorkflowNotFound, WorkflowActive, DatabaseUnavailable. What cleaned up after it goes with it: its id
        must be free when this one is used again, and is cancelled again."""
        cleanup = f"{id}:abort"
        async with self._database.transaction() as connection:
            # The lock first, and then another look: what was committed while this waited for it is seen by that one.
            held = await around("delete.lock", workflows.lock(connection, [id, cleanup]))
            if id not in held:
                raise WorkflowNotFound
            workflow, after = held[id], held.get(cleanup)
            belongs = after is not None and after.name == workflow.abort_name
            if not workflow.status.terminal:
                raise WorkflowActive(workflow_status=workflow.status.value)
            if after is not None and belongs and not after.status.terminal:
                raise WorkflowActive(
                    f"What cleans up after it, {cleanup!r}, is still active.", workflow_status=workflow.status.value
                )
            delete = workflows.delete_if_ended(connection, [id, cleanup] if belongs else [id])
            gone = await around("delete.delete", delete)
            await point("delete.before_commit")
        await point("delete.after_commit")
        self.aborted(gone, cleanups=False)

    async def end(self, targets: Sequence[tuple[str, int]], status: Status, error: JsonText) -> None:
        """End workflows, in a generation of theirs, for a reason of the service's own: out of time, or dead."""
        async with self._database.transaction() as connection:
            abort = workflows.abort_if_active(connection, targets, status, error)
            ended, cleanups = await around("end.abort", abort)
            await point("end.before_commit")
        await point("end.after_commit")
        self.aborted(ended, cleanups=cleanups)

    async def close(self) -> None:
        await self._mail.close()
        await self._line.close()


def _known(known: tuple[Workflow, bytes], name: str, digest: bytes) -> Started:
    workflow, hashed = known
    if (workflow.name, hashed) != (name, digest):
        raise WorkflowIdConflict(workflow_status=workflow.status.value)
    return Started(workflow, created=False)


def _derived(start: Start) -> WorkflowId | None:
    if start.idempotency_key is None:
        return None
    return WorkflowId(str(uuid.uuid5(_START_KEYS, f"{start.name}\n{start.idempotency_key}")))


def _row(
    id: WorkflowId,
    definition: Definition,
    token: str,
    *,
    status: Status,
    input: JsonText | None,
    digest: bytes,
    tags: JsonText,
    timeout: float | None,
    delay: float,
    traceparent: str | None,
    parent_id: WorkflowId | None = None,
) -> str:
    row = (
        f'{{"id":"{id}","name":"{definition.name}","version":"{definition.version}","status":"{status}"'
        f',"input_hash":"{digest.hex()}","tags":{tags},"start_token":"{token}","priority":0,"delay":{delay}'
    )
    if definition.on_abort is not None:
        row += f',"abort_name":"{definition.on_abort.name}","abort_version":"{definition.on_abort.version}"'
    if timeout is not None:
        row += f',"timeout":{timeout}'
    if parent_id is not None:
        row += f',"parent_id":"{parent_id}"'
    if traceparent is not None:
        row += f',"traceparent":{json.dumps(traceparent)}'
    return complete(row, "input", input)
