"""The scribe of one workflow: turns what happens into rows of its open entry, and knows what is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from app import values
from app.engine.calls import Call, Outcome, Waiting
from app.engine.entries import Birth, Entry, Writer, complete, weight
from app.errors import Aborted
from app.model import JsonText, WorkflowId
from app.store.steps import Recorded

MAX_RECORDS = 1_000
MAX_PENDING_BYTES = 4 * 1_048_576
"""A workflow with more than this uncommitted stands still until it is."""
MAX_ALL_BYTES = 64 * 1_048_576
MAX_KEYS = 100
"""Keys of one workflow of which it is kept whether they were set."""
SHARE = 65_536
"""When more than this is uncommitted of all workflows of a process, one stands still with so many bytes of it."""


@dataclass(slots=True)
class Backlog:
    """What is uncommitted of all workflows of a process."""

    bytes: int = 0


class Scribe:
    """`done` and `position` are the last numbers of outcomes and events; `waits` the calls whose waits the database
    knows; `fertile` has the first entry say that the workflow got on. `opened` is called with each new entry."""

    def __init__(
        self,
        writer: Writer,
        *,
        done: int,
        position: int,
        waits: Iterable[int],
        fertile: bool,
        backlog: Backlog,
        opened: Callable[[Writer], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._writer: Writer | None = writer
        """Who it writes for; None when that is over."""
        self._id, self._opened = writer.id, opened
        self._done, self._position, self._fertile = done, position, fertile
        self._backlog = backlog
        self._sizes: dict[int, int] = {}
        """Bytes of entries that are not committed, by number."""
        self._first_set: dict[str, int] | None = {} if position == 0 else None
        """The entries that set each key first, by number; None: not known."""
        self._entry: Entry | None = None
        self._written = set(waits)
        self._commits: list[tuple[int, asyncio.Future[None]]] = []
        self._loop = loop
        self.serial = 0
        """The last entry's number."""
        self.committed = 0
        """The last committed entry's number."""
        self.heavy = False
        """Too much is waiting for its commit."""

    # ---- entries

    @property
    def all_committed(self) -> bool:
        return self.committed >= self.serial

    def entry(self) -> Entry:
        """The open entry; a new one is announced."""
        if self._entry is None:
            if self._writer is None:
                raise Aborted("Nothing of the workflow is recorded any more.")
            self.serial += 1
            self._entry = Entry(self._writer, self.serial, fertile=self._fertile)
            self._fertile = False
            self._opened(self._writer)
        return self._entry

    def take(self) -> Entry | None:
        """Close the open entry."""
        entry, self._entry = self._entry, None
        return entry

    def commit(self, serial: int) -> None:
        """The entries up to this one are on disk."""
        self.committed = serial
        self._lighten(serial)
        waiting, self._commits = self._commits, []
        for awaited, future in waiting:
            if awaited > serial:
                self._commits.append((awaited, future))
            elif not future.done():
                future.set_result(None)

    def until_committed(self) -> asyncio.Future[None]:
        """Done when all that is written by now is on disk; a future of the service's loop."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self.all_committed:
            future.set_result(None)
        else:
            self._commits.append((self.serial, future))
        return future

    def drop(self, reason: BaseException) -> None:
        """What is not committed never will be."""
        self._entry = None
        self.committed = self.serial
        self._lighten(self.serial)
        waiting, self._commits = self._commits, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(reason)
                future.exception()  # whoever does not wait for it need not hear of it

    def unset(self, key: str) -> bool:
        """Whether this key was never set, as far as that is committed. False may also mean that it isn't known."""
        return self._first_set is not None and self._first_set.get(key, self.serial + 1) > self.committed

    def detach(self) -> None:
        """Nothing is written any more. Who was written for refers to this one, so this one lets go."""
        self._writer = None

    def _weigh(self, entry: Entry) -> None:
        self._backlog.bytes += entry.size - self._sizes.get(entry.serial, 0)
        self._sizes[entry.serial] = entry.size
        self.heavy = (
            self.heavy
            or entry.rows > MAX_RECORDS
            or entry.size > MAX_PENDING_BYTES
            or (self._backlog.bytes > MAX_ALL_BYTES and entry.size > SHARE)
        )

    def _lighten(self, serial: int) -> None:
        self.heavy = False
        for number in [number for number in self._sizes if number <= serial]:
            self._backlog.bytes -= self._sizes.pop(number)

    # ---- what happens

    def step(self, call: Call, outcome: Outcome, completed_at: datetime) -> None:
        """A call has come out."""
        self._done += 1
        entry = self.entry()
        row = (
            f'{{"id":"{self._id}","seq":{call.seq},"done":{self._done},"name":{values.quote(call.name)}'
            f',"kind":"{call.kind}","digest":{call.digest},"attempts":{outcome.attempts}'
            f',"started_at":"{outcome.started_at.isoformat()}","completed_at":"{completed_at.isoformat()}"'
        )
        if outcome.error is not None:
            row += f',"error":{outcome.error}'
        if outcome.child_id is not None:
            row += f',"child_id":"{outcome.child_id}"'
        entry.add(entry.steps, complete(row, "output", outcome.output))
        if outcome.received is not None:
            entry.rare = True
            entry.received.append((outcome.received, call.seq))
        self.forget_wait(call.seq)
        self._weigh(entry)

    def transaction(
        self, call: Call, output: JsonText, attempts: int, started_at: datetime, completed_at: datetime
    ) -> Recorded:
        """The record of a call that a transaction of its own writes."""
        self._done += 1
        return Recorded(
            call.seq,
            self._done,
            call.name,
            call.kind,
            call.digest,
            output,
            None,
            attempts,
            None,
            started_at,
            completed_at,
        )

    def event(self, key: str, value: JsonText, step: int | None) -> None:
        """A key was set: by the workflow's own code, or inside a step."""
        entry = self.entry()
        self._position += 1
        entry.sets[key] = (self._position, value)
        if self._first_set is not None:
            self._first_set.setdefault(key, entry.serial)
            if len(self._first_set) > MAX_KEYS:
                self._first_set = None
        row = (
            f'{{"id":"{self._id}","position":{self._position},"key":{values.quote(key)},"done":{self._done}'
            f',"step":{"null" if step is None else step}'
        )
        entry.add(entry.events, complete(row, "value", value))
        self._weigh(entry)

    def callback(self, call: Call, token_hash: str, expires: float) -> None:
        entry = self.entry()
        entry.rare = True
        entry.add(
            entry.callbacks,
            f'{{"id":"{self._id}","token_hash":"{token_hash}","seq":{call.seq},"topic":{values.quote(call.name)}'
            f',"expires":{expires}}}',
        )

    def birth(self, id: WorkflowId, row: str) -> Birth:
        """A child is to be started behind this workflow's fence."""
        birth = Birth(id, row, self._loop.create_future())
        entry = self.entry()
        entry.starts.append(birth)
        entry.rows += 1
        entry.size += weight(row)
        self._weigh(entry)
        return birth

    # ---- waits

    def knows_wait(self, seq: int) -> bool:
        """Whether the database knows, or will know, what a call waits for."""
        return seq in self._written

    def wait(self, seq: int, waiting: Waiting) -> None:
        """From now on what a call waits for, and until when, outlives this process."""
        self._written.add(seq)
        row = f'{{"id":"{self._id}","seq":{seq},"kind":"{waiting.kind}","attempts":{waiting.attempts}'
        if waiting.target is not None:
            row += f',"target":"{waiting.target}"'
        if waiting.key is not None:
            row += f',"key":{values.quote(waiting.key)}'
        if waiting.deadline is not None:
            row += f',"deadline":"{waiting.deadline.isoformat()}"'
        if waiting.error is not None:
            row += f',"error":{waiting.error}'
        entry = self.entry()
        entry.rare = True
        entry.waits[seq] = row + "}"
        entry.waited.discard(seq)

    def forget_wait(self, seq: int) -> None:
        if seq in self._written:
            self._written.discard(seq)
            entry = self.entry()
            entry.rare = True
            entry.waits.pop(seq, None)
            entry.waited.add(seq)

    # ---- changes of status

    def park(self, seen: int | None, wake_at: datetime | None) -> None:
        """The workflow waits, unless a message has come since `seen` had."""
        entry = self.entry()
        entry.fin, entry.seen = "WAITING", seen
        entry.wake_at = None if wake_at is None else wake_at.isoformat()

    def end(self, status: str, output: JsonText | None, error: JsonText | None) -> None:
        """The workflow has ended. Nothing is written after that."""
        for seq in list(self._written):
            self.forget_wait(seq)
        entry = self.entry()
        entry.fin, entry.output, entry.error = status, output, error
        entry.size += len(output or "") + len(error or "")
