"""The mail: messages to workflows, from outside and from other workflows, many in one transaction.

It never waits for a workflow that somebody holds: what is for such a one goes on by a line of its own,
together with what else is for it, so that nobody else's message stands behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from app import aside, telemetry, values
from app.engine.batch import Batch
from app.engine.points import around, point
from app.errors import (
    Aborted,
    DatabaseUnavailable,
    Fault,
    IdempotencyConflict,
    InvalidRequest,
    MilepostError,
    WorkflowFinished,
    WorkflowNotFound,
)
from app.ids import uuid4
from app.model import ExecutorId, JsonText, Message, Status, WorkflowId
from app.patience import PATIENCE
from app.store import db, messages

log = telemetry.logger(__name__)

LIMIT = 200
"""Messages in one transaction."""
MAX_BYTES = 1_048_576
"""Payloads in one transaction, about."""
TURN = 0.7
"""Seconds in which it must be a letter's turn on the slow line."""
MOMENTS = (0.01, 0.05)
"""Seconds between tries for a workflow that somebody holds, most often a flush, before the slow line waits for it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A workflow that sends: nothing is sent for it once it is somebody else's."""

    id: WorkflowId
    generation: int


@dataclass(frozen=True, slots=True)
class Letter:
    target: WorkflowId
    topic: str
    payload: JsonText
    idempotency_key: str | None = None
    source: Source | None = None
    digest: bytes = b""
    """Of the payload; made here."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The workflows whose rows are locked for it."""
        return (self.target,) if self.source is None else (self.target, self.source.id)


class _Held:
    """The answer to a letter for which somebody holds a row."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it was accepted; not `created`: it had been sent before under this idempotency key."""

    message: Message
    created: bool


Answer = Sent | MilepostError | Aborted


class Mail:
    def __init__(
        self, database: db.Database, *, executor: Callable[[], ExecutorId], arrived: Callable[[WorkflowId, bool], None]
    ) -> None:
        """`arrived` is told of each target after the commit, and whether it was parked until then."""
        # No longer than callers wait: what they were told did not go through must not go through later.
        settings = db.PLANNED_ONCE | {"lock_timeout": "700ms"}
        self._line = db.Line(database, "mail", settings=settings)
        self._slow_line = db.Line(database, "slow mail", settings=settings)
        self._executor, self._arrived = executor, arrived
        self._batch: Batch[Letter, Answer | _Held] = Batch(
            "mail",
            self._send_what_is_free,
            LIMIT,
            patience=PATIENCE,
            size=lambda letter: len(letter.payload),
            most=MAX_BYTES,
        )
        self._slow: Batch[Letter, Answer | _Held] = Batch(
            "slow mail",
            self._send_what_is_held,
            LIMIT,
            patience=PATIENCE,
            turn=TURN,
            size=lambda letter: len(letter.payload),
            most=MAX_BYTES,
            alike=lambda letter: letter.rows,
        )

    async def send(self, letter: Letter) -> Sent:
        """Raises WorkflowNotFound, WorkflowFinished, IdempotencyConflict, DatabaseUnavailable; Aborted when the
        sending workflow is not this process's any more."""
        letter = replace(letter, digest=await aside.work(len(letter.payload), values.digest_of_text, letter.payload))
        async with db.available(), _accepted():
            answer = await self._batch.ask(letter)
            for pause in MOMENTS:
                if not isinstance(answer, _Held):
                    break
                await asyncio.sleep(pause)
                answer = await self._batch.ask(letter)
            if isinstance(answer, _Held):
                answer = await self._slow.ask(letter)
        if isinstance(answer, Sent):
            return answer
        raise DatabaseUnavailable if isinstance(answer, _Held) else answer

    async def close(self) -> None:
        await self._line.close()
        await self._slow_line.close()

    async def _send_what_is_free(self, letters: Sequence[Letter]) -> Sequence[Answer | _Held]:
        return await self._send(self._line, letters, skip=True)

    async def _send_what_is_held(self, letters: Sequence[Letter]) -> Sequence[Answer | _Held]:
        return await self._send(self._slow_line, letters, skip=False)

    async def _send(self, line: db.Line, letters: Sequence[Letter], *, skip: bool) -> Sequence[Answer | _Held]:
        everyone = [id for letter in letters for id in letter.rows]
        keyed = [(letter.target, letter.idempotency_key) for letter in letters if letter.idempotency_key]
        async with line.transaction() as connection:
            locked = await around("mail.lock", messages.lock(connection, everyone, skip=skip))
            missing = set(everyone) - locked.keys()
            held: set[str] = set()
            if skip and missing:
                held = await around("mail.existing", messages.existing(connection, sorted(missing)))
            # A second statement, for its snapshot: what was sent before the lock was had is seen by it.
            earlier = await around("mail.earlier", messages.by_key(connection, keyed)) if keyed else {}
            answers, drafts = self._judge(letters, locked, held, earlier)
            new = list(drafts.values())
            sent = await around("mail.send", messages.send(connection, new)) if new else []
            await point("mail.before_commit")
        await point("mail.after_commit")
        by_letter = dict(zip(drafts, sent, strict=True))
        for answer in answers:
            if isinstance(answer, Sent):
                # A repeat: the first try may have been committed without an answer, and so without a wake-up.
                self._arrived(answer.message.workflow_id, False)
        for message in sent:
            self._arrived(message.workflow_id, locked[message.workflow_id].status is Status.WAITING)
        return [
            Sent(by_letter[answer], answer == n) if isinstance(answer, int) else answer
            for n, answer in enumerate(answers)
        ]

    def _judge(
        self,
        letters: Sequence[Letter],
        locked: dict[str, messages.Locked],
        held: set[str],
        earlier: dict[tuple[str, str], messages.Earlier],
    ) -> tuple[list[int | Answer | _Held], dict[int, messages.Draft]]:
        """For each letter its answer, or the number of the letter whose message is its answer."""
        answers: list[int | Answer | _Held] = []
        drafts: dict[int, messages.Draft] = {}
        firsts: dict[tuple[str, str], int] = {}
        for n, letter in enumerate(letters):
            key = (letter.target, letter.idempotency_key) if letter.idempotency_key else None
            before = earlier.get(key) if key else None
            first = firsts.get(key) if key else None
            target = locked.get(letter.target)
            if not held.isdisjoint(letter.rows):
                answers.append(_Held())
            elif letter.source is not None and not self._owns(letter.source, locked):
                answers.append(Aborted("The sending workflow goes on elsewhere, or was ended."))
            elif target is None:
                answers.append(WorkflowNotFound())
            elif before is not None:
                same = (before.message.topic, before.payload_hash) == (letter.topic, letter.digest)
                answers.append(Sent(before.message, False) if same else _conflict(target))
            elif first is not None:
                same = (drafts[first].topic, drafts[first].payload_hash) == (letter.topic, letter.digest)
                answers.append(first if same else _conflict(target))
            elif target.status.terminal:
                answers.append(WorkflowFinished(workflow_status=target.status.value))
            else:
                drafts[n] = messages.Draft(
                    letter.target,
                    uuid4(),
                    letter.topic,
                    letter.payload,
                    letter.digest,
                    letter.idempotency_key,
                )
                if key:
                    firsts[key] = n
                answers.append(n)
        return answers, drafts

    def _owns(self, source: Source, locked: dict[str, messages.Locked]) -> bool:
        row = locked.get(source.id)
        return (
            row is not None
            and row.status is Status.RUNNING
            and (row.executor, row.generation) == (self._executor(), source.generation)
        )


@asynccontextmanager
async def _accepted() -> AsyncIterator[None]:
    try:
        yield
    except db.FAILURES as error:
        if not db.refused(error):
            raise
        log.warning("the database refused a message", error=db.reason(error))
        raise InvalidRequest(Fault("the database does not take this message", pointer="")) from error


def _conflict(target: messages.Locked) -> IdempotencyConflict:
    return IdempotencyConflict(workflow_status=target.status.value)
