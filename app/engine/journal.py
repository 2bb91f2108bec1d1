"""The journal: the only writer of workflow progress, by group commit.

Every workflow of this process hands its records to its own open *entry*. While one flush is on its way
the entries collect; then all of them go out as one statement, one commit. A workflow's entry is never
divided, so what it records between two of its barriers is committed together or not at all.

Three lanes, each a connection that flushes one batch after the other. The *fast* lane never waits for a
row: what somebody holds is skipped, and goes on by the *slow* lane, which waits. Entries with big values
take the *big* lane, which doesn't wait either. A workflow stays in a lane until nothing of it is on its
way there, so its entries never overtake each other.

A flush whose answer was lost is sent again as it is: every record is idempotent by its key, and what the
first try wrote counts as written. One that the database can't carry out now is halved and tried again.
One that it refuses is divided by workflow, until the guilty one stands alone and fails with the reason.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any

from app import telemetry
from app.engine.clock import Clock
from app.engine.entries import BIG, Apart, Birth, Entry, Lane, Writer, weight
from app.engine.hub import Commit
from app.engine.points import point
from app.errors import Aborted, DatabaseUnavailable, Draining, MilepostError, Overloaded
from app.model import Event, ExecutorId, Status, WorkflowId
from app.patience import PATIENCE, Vigil
from app.store import db, journal

log = telemetry.logger(__name__)

MAX_ROWS = 512
MAX_BYTES = 1_048_576
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between tries while the database is away."""


_SETTINGS = {
    Lane.FAST: db.PLANNED_ONCE,
    Lane.BIG: db.PLANNED_ONCE,
    # Here alone a flush waits for rows; not for long, so that what others hold for long lets the rest pass.
    Lane.SLOW: {**db.PLANNED_ONCE, "lock_timeout": "500ms"},
}


Item = Entry | Birth


class Journal:
    def __init__(
        self,
        database: db.Database,
        *,
        clock: Clock,
        buffer: int,
        published: Callable[[WorkflowId, Collection[str], bool, Callable[[], Commit | None]], None],
        watched: Callable[[Sequence[WorkflowId], Mapping[str, Collection[str]]], None],
    ) -> None:
        """`buffer`: starts that may wait for their commit. `published` is told of what was committed (id, keys,
        ended, what it was if anybody asks), `watched` of those that somebody on any process may wait for: which have
        ended, which keys were set."""
        self._lanes = {
            lane: _Queue(self, db.Line(database, f"journal {lane}", settings=_SETTINGS[lane]), lane) for lane in Lane
        }
        self._clock, self._buffer = clock, buffer
        self._births = 0
        self._published, self._watched = published, watched
        self.executor = ExecutorId("")
        self._vigil: Vigil[Birth] = Vigil(PATIENCE, lambda birth: birth.give_up(DatabaseUnavailable()))
        self.loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        """In which it was made, and in which it writes."""
        self.in_flight: set[str] = set()
        """Ids of starts whose commit has not been answered."""

    @property
    def load(self) -> int:
        """Writers and starts that wait for a flush."""
        return sum(map(len, self._lanes.values()))

    async def open(self) -> None:
        """Connect the lane that nearly everything takes. Raises what the driver raises."""
        await self._lanes[Lane.FAST].line.open()

    def enlist(self, writer: Writer) -> None:
        """A workflow has opened an entry."""
        self._lanes[writer.lane].put(writer)

    async def start(self, id: WorkflowId, row: str, settled: Callable[[Any], None]) -> Any:
        """Insert a workflow in the next flush: the row of the answer, None when its id was taken.

        Raises Overloaded when too many are waiting for that already, what refused it, or DatabaseUnavailable. What has
        not been sent when its caller is sent off never will be. What has been sent may have been committed: then it
        runs, and its id tells when the caller asks again. `settled` is told the outcome, also when the caller has left;
        None also when nothing was committed.
        """
        if self._births >= self._buffer or self.load >= 2 * self._buffer:
            settled(None)
            raise Overloaded(f"{self._buffer} starts are waiting for the database already; try again.")

        def over(row: Any) -> None:
            self._births -= 1
            self.in_flight.discard(id)
            settled(row)

        birth = Birth(id, row, self.loop.create_future(), over)
        self._births += 1
        self.in_flight.add(id)
        self._lanes[Lane.BIG if weight(row) > BIG else Lane.FAST].put(birth)
        self._vigil.enter(birth)
        try:
            return await birth.future
        finally:
            self._vigil.leave(birth)

    async def drain(self, timeout: float) -> bool:
        """Wait until everything is committed; False: it was not in time."""
        try:
            async with asyncio.timeout(timeout):
                for queue in self._lanes.values():
                    await queue.idle.wait()
        except TimeoutError:
            return False
        return not self.load

    def hurry(self) -> None:
        """The database answers again: what waits between two tries is sent at once."""
        for queue in self._lanes.values():
            queue.hurried.set()

    async def stop(self) -> None:
        for queue in self._lanes.values():
            await queue.stop()

    def reopen(self, executor: ExecutorId) -> None:
        """Write as another executor from now on; what had not been committed is another owner's by now."""
        self.executor = executor
        for queue in self._lanes.values():
            queue.abandon()

    def hand_over(self, lane: Lane, item: Item | Writer) -> None:
        self._lanes[lane].put(item)

    def settle(self, items: Sequence[Item], rows: Sequence[Any], lane: Lane) -> None:
        """Tell everybody what became of a flush."""
        self._vigil.answered()
        if rows:
            self._clock.catch_up(rows[0].at)
        own = {row.id: row for row in rows if not row.started}
        born = {row.id: row for row in rows if row.started}
        watched: list[Entry] = []
        for item in items:
            row = born.get(item.id) if isinstance(item, Birth) else own.get(item.id)
            # The others of this commit must not suffer from a defect in one. Out of memory, it is adopted anew.
            try:
                if isinstance(item, Birth):
                    item.tell(row)
                elif row is None and lane is not Lane.SLOW:
                    item.writer.lane = Lane.SLOW
                    self.hand_over(Lane.SLOW, item)
                elif row is None or not row.mine:
                    _lose(item)
                    item.writer.fenced()
                else:
                    self._settle(item, row, born)
                    if row.watched and (item.sets or item.ends):
                        watched.append(item)
            except Exception:
                log.exception("a workflow could not go on after a commit", workflow_id=item.id)
                if isinstance(item, Entry):
                    item.writer.fenced()
        if watched:
            self._watched(
                [entry.id for entry in watched if entry.ends],
                {entry.id: entry.sets.keys() for entry in watched if entry.sets},
            )

    def _settle(self, entry: Entry, row: Any, born: dict[str, Any]) -> None:
        if entry.sets or entry.ends:
            self._published(entry.id, entry.sets.keys(), entry.ends, partial(_told, entry, row))
        for birth in entry.starts:
            # Of two children with one id the second finds it taken.
            birth.tell(born.pop(birth.id, None))
        entry.writer.committed(entry, moved=row.moved)


def _told(entry: Entry, row: Any) -> Commit | None:
    """What an entry says to those who wait; None: a try before this one may have written it, at another time."""
    if entry.again:
        return None
    events = {key: Event(position, key, value, row.at) for key, (position, value) in entry.sets.items()}
    status = Status(entry.fin) if entry.fin is not None and row.moved else Status.RUNNING
    last = max((position for position, _ in entry.sets.values()), default=0)
    return Commit(entry.writer.token[:8], status, entry.error, last, events)


def _lose(entry: Entry, reason: BaseException | None = None) -> None:
    for birth in entry.starts:
        birth.refuse(reason or Aborted())


class _Queue:
    """One lane: what waits for it, and the task that flushes it."""

    def __init__(self, owner: Journal, line: db.Line, lane: Lane) -> None:
        self._owner, self.line, self._lane = owner, line, lane
        self._waiting: deque[Item | Writer] = deque()
        self._task: asyncio.Task[None] | None = None
        self._epoch = 0
        self.hurried = asyncio.Event()
        """Set while a pause between two tries is not to be waited for to its end."""
        self.idle = asyncio.Event()
        self.idle.set()
        self._at_work = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Item | Writer) -> None:
        self._waiting.append(item)
        if not self._at_work:
            self._at_work = True
            self.idle.clear()
            # A workflow's code may stand behind this, or a request: on another loop, in another context.
            self._task = self._owner.loop.create_task(
                self._run(), name=f"journal {self._lane}", context=self._owner.context.copy()
            )

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.line.close()

    def abandon(self) -> None:
        """What is on its way is another owner's: it may be answered, but isn't sent again."""
        self._epoch += 1
        for item in self._waiting:
            if isinstance(item, Birth):
                item.refuse(Draining())
        self._waiting.clear()

    async def _run(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) > 1:
                    # Where there are many, what can go on by now goes first: what it records is not left for another
                    # flush, and the server works on one half of the workflows while the other half has its turn.
                    await asyncio.sleep(0)
                items = self._collect()
                if items:
                    await self._commit(items)
        except Exception as error:
            # A defect of the journal itself. To go on would break its promises; the duty ends loudly.
            log.critical("the journal has failed", lane=self._lane, error=repr(error), exc_info=error)
            raise
        finally:
            self._at_work = False
            self.idle.set()

    def _collect(self) -> list[Item]:
        """As many as one flush takes; a writer's entry closes here.

        One statement can neither insert an id twice nor write twice for one workflow: the second one waits for the
        next flush, and behind it whatever else there is of its workflow.
        """
        items: list[Item] = []
        rivals: list[Item | Writer] = []
        taken: set[str] = set()
        rows = size = 0
        while self._waiting and rows < MAX_ROWS and size < MAX_BYTES:
            waiting = self._waiting.popleft()
            if waiting.id in taken:
                rivals.append(waiting)
                continue
            item = self._open(waiting)
            if item is None:
                continue
            taken.add(item.id)
            if isinstance(item, Birth):
                item.sent = True
                rows += 1
                size += weight(item.row)
            else:
                if any(birth.id in taken for birth in item.starts):
                    rivals.append(item)
                    continue
                for birth in item.starts:
                    taken.add(birth.id)
                    birth.sent = True
                rows += item.rows
                size += item.size
            items.append(item)
        self._waiting.extendleft(reversed(rivals))
        return items

    def _open(self, waiting: Item | Writer) -> Item | None:
        """What there is to write of something that waited; None: nothing, or not by this lane."""
        if isinstance(waiting, Birth):
            return None if waiting.over else waiting
        return waiting if isinstance(waiting, Entry) else self._take(waiting)

    def _take(self, writer: Writer) -> Entry | None:
        if writer.lane is not self._lane:
            # Something of it has gone on by another lane since this was put here, and must not be overtaken.
            self._owner.hand_over(writer.lane, writer)
            return None
        entry = writer.take()
        if entry is None:
            return None
        if self._lane is Lane.FAST and entry.size > BIG:
            writer.lane = Lane.BIG
            self._owner.hand_over(Lane.BIG, entry)
            return None
        return entry

    async def _commit(self, items: Sequence[Item], *, alone: bool = True) -> None:
        """Carry on with a batch until each of its items is settled, or put off; not `alone`: it is a part of one
        that did not go through."""
        epoch, tries = self._epoch, 0
        while self._epoch == epoch:
            try:
                await point("journal.before_flush")
                again = any(item.again for item in items)
                rows = await journal.flush(
                    self.line, self._owner.executor, _batch(items), skip=self._lane is not Lane.SLOW, again=again
                )
                await point("journal.after_flush")
            except db.FAILURES as error:
                verdict = db.verdict(error)
                _report(self._lane, verdict, error, tries)
                if await self._divided(items, error, verdict, alone=alone):
                    return
                self.hurried.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSES[min(tries, len(PAUSES) - 1)]):
                        await self.hurried.wait()
                tries += 1
            else:
                if self._epoch == epoch:
                    self._owner.settle(items, rows, self._lane)
                    return
        for item in items:
            if isinstance(item, Birth):
                item.refuse(Draining())
            else:
                _lose(item)

    async def _divided(self, items: Sequence[Item], error: Exception, verdict: db.Verdict, *, alone: bool) -> bool:
        """See to a batch that did not go through; False: all that can be done is to send it again as it is."""
        if verdict is not db.Verdict.LOST and len(items) > 1:
            middle = len(items) // 2
            await self._commit(items[:middle], alone=False)
            await self._commit(items[middle:], alone=False)
        elif verdict is db.Verdict.REFUSED:
            _refuse(items[0], error)
        elif (db.held(error) or verdict is db.Verdict.BROKEN) and (self._waiting or not alone):
            if verdict is db.Verdict.BROKEN:
                # Nothing paced this one: a lock that was waited for has taken its time, a broken statement none.
                await asyncio.sleep(PAUSES[-1] / 10)
            self._put_off(items[0])
        else:
            if verdict is db.Verdict.LOST:
                for item in items:
                    item.again = True
            return False
        return True

    def _put_off(self, item: Item) -> None:
        """It does not go through, and may not for long: let the others go first, but nothing of its own workflow."""
        later = [waiting for waiting in self._waiting if waiting.id == item.id]
        others = [waiting for waiting in self._waiting if waiting.id != item.id]
        self._waiting = deque([*others, item, *later])


def _report(lane: Lane, verdict: db.Verdict, error: BaseException, tries: int) -> None:
    if verdict is db.Verdict.REFUSED:
        log.error("the database refused a record", lane=lane, error=db.reason(error))
    elif tries == 0:
        log.warning("a flush did not go through, trying again", lane=lane, verdict=verdict, error=db.reason(error))


def _refuse(item: Item, error: BaseException) -> None:
    if isinstance(item, Birth):
        item.refuse(error)
        return
    refusal = MilepostError(f"The database refused what the workflow recorded: {db.reason(error)}.")
    item.writer.refused(refusal)
    _lose(item, refusal)


def _batch(items: Iterable[Item]) -> journal.Batch:
    entries: list[Entry] = []
    births: dict[str, str] = {}
    steps: list[str] = []
    events: list[str] = []
    for item in sorted(items, key=attrgetter("id")):
        if isinstance(item, Birth):
            births[item.id] = item.row
            continue
        entries.append(item)
        steps += item.steps
        events += item.events
        for birth in item.starts:
            births.setdefault(birth.id, birth.row)
    large: list[str] = []
    return journal.Batch(
        ids=[entry.id for entry in entries],
        entries=_array(map(_head, entries)),
        starts=_array(_whole(births.values(), large)) if births else None,
        steps=_array(_whole(steps, large)),
        events=_array(_whole(events, large)),
        large=large,
        rarities=_rarities(entries) if any(entry.rare for entry in entries) else None,
    )


def _rarities(entries: Sequence[Entry]) -> journal.Rarities:
    return journal.Rarities(
        received=_array(
            f'{{"id":"{entry.id}","position":{position},"seq":{seq}}}'
            for entry in entries
            for position, seq in entry.received
        ),
        callbacks=_array(row for entry in entries for row in entry.callbacks),
        waits=_array(row for entry in entries for row in entry.waits.values()),
        waited=_array(f'{{"id":"{entry.id}","seq":{seq}}}' for entry in entries for seq in entry.waited),
        positions=sorted({position for entry in entries for position, _ in entry.received}),
        seqs=sorted({seq for entry in entries for seq in entry.waited}),
    )


def _whole(rows: Iterable[str], large: list[str]) -> Iterable[str]:
    """Whole rows; what goes beside them is added to `large`, and a row then says where it is."""
    for row in rows:
        if isinstance(row, Apart):
            large.append(row.value)
            yield f'{row},"large":{len(large)}}}'
        else:
            yield row


def _array(rows: Iterable[str]) -> str:
    return f"[{','.join(rows)}]"


def _head(entry: Entry) -> str:
    head = f'{{"id":"{entry.id}","generation":{entry.writer.generation}'
    if entry.fertile:
        head += ',"fertile":true'
    if entry.fin is not None:
        head += f',"fin":"{entry.fin}"'
        if entry.seen is not None:
            head += f',"seen":{entry.seen}'
        if entry.output is not None:
            head += f',"output":{entry.output}'
        if entry.error is not None:
            head += f',"error":{entry.error}'
        if entry.wake_at is not None:
            head += f',"wake_at":"{entry.wake_at}"'
    return head + "}"
