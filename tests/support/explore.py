"""Two processes on one database, each stopped once: all pairs of moments, one after the other.

The first runs until it is stopped at a point, then the second until it is, or until it can't go on without the first;
then the first goes on, as a zombie perhaps, and then the second. A process that is stopped does nothing more at all,
while its sessions may be ended by the server.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self, TypeVar

import psycopg
from sqlalchemy import event

from app.engine import points
from app.engine.commands import Start
from app.model import WorkflowId
from app.store import db
from tests.support import audit, waiting
from tests.support.audit import Audit
from tests.support.beats import beat
from tests.support.engine import Engine, TestDatabase
from tests.support.rows import ENDED
from tests.support.schedules import Choices, exhaustive
from tests.support.waiting import eventually

T = TypeVar("T")

BEAT = 0.2
"""Seconds between the beats of a replica that waits for something to end."""
STALLED = 0.02
"""Seconds without any progress after which somebody counts as waiting for somebody else."""

_numbers = itertools.count(1)

_here: ContextVar["Replica | None"] = ContextVar("here", default=None)


def here() -> "Replica | None":
    """Whose task this is; nobody's: a test's own."""
    return _here.get()


class _Database(TestDatabase):
    """Tells the witness whose its connections are."""

    def __init__(self, url: str, writer: str) -> None:
        super().__init__(url)
        self._writer = writer
        event.listen(
            self._engine.sync_engine,
            "connect",
            lambda adapted, _: audit.introduce(adapted.driver_connection, writer),
        )

    async def connect(self, duty: str, **options: Any) -> db.Connection:
        connection = await super().connect(duty, **options)
        audit.introduce(connection, self._writer)
        return connection

    @property
    def pids(self) -> list[int]:
        """The server's processes of its sessions."""
        return [connection.info.backend_pid for connection in self._opened if not connection.closed]


class Replica(Engine):
    """One of several engines in this process. What its tasks do is known to be its own, and its beats come when a
    test wants them."""

    def __init__(self, url: str, name: str, **limits: Any) -> None:
        super().__init__(url, **{"beat": 3600.0, "time_to_live": 3600.0, "linger": 0.005, "cache": 0, **limits})
        self.name = name
        self._dead = ""
        self._context: Context = copy_context()
        self._context.run(_here.set, self)

    def open(self) -> TestDatabase:
        return _Database(self.url, f"{self.name}{self.lives}")

    async def start(self) -> Self:
        await asyncio.get_running_loop().create_task(super().start(), context=self._context.copy())
        return self

    def beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of a client of this replica."""
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._outside.add(task)
        task.add_done_callback(self._outside.discard)
        return task

    @property
    def writer(self) -> str:
        """By which name the witness knows it."""
        return f"{self.name}{self.lives}"

    @property
    def audit(self) -> Audit:
        assert self._eye
        return Audit(self._eye)

    async def creates(self, program: str, id: str) -> bool:
        """Start a workflow; whether this is told to have done it."""
        started = await self.runtime.commands.start(Start(program, id=WorkflowId(id)))
        return started.created

    async def ended(self, id: str) -> None:
        """Wait until a workflow has, or is gone, by the table: between beats a replica hears of nobody.

        It beats by and by: a claim passes over what somebody holds, and the beat has it try again."""
        loop = asyncio.get_running_loop()
        end, beats_at = loop.time() + 15 * waiting.PATIENCE, loop.time() + BEAT
        while await self.status(id) not in (*ENDED, None):
            assert loop.time() < end, f"{id} does not end"
            if loop.time() > beats_at:
                await beat(self)
                beats_at = loop.time() + BEAT
            await asyncio.sleep(0.002)

    async def declare_dead(self) -> None:
        self._dead = self.executor
        await self.execute("update executors set alive = false where id = %s", self._dead)

    async def is_reborn(self) -> None:
        """Have it hear that it was declared dead, and go on under another name."""
        runtime = self.runtime
        runtime._pulse.poke()
        # It may have heard by itself meanwhile.
        await eventually(
            lambda: runtime._journal.executor != self._dead, message=f"{self.name} does not hear of its death"
        )

    async def end_idle_transactions(self) -> None:
        """As the server does when a session does nothing inside a transaction for too long."""
        assert isinstance(self._database, _Database)
        await self.rows(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where state like 'idle in transaction%%' and pid = any (%s)",
            self._database.pids,
        )


@dataclass(eq=False)
class Actor:
    """What one of the two does, and where it stands."""

    replica: Replica
    may_stop: bool = False
    stopped_at: str | None = None
    passed: int = 0
    _going: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._going.set()

    @property
    def stopped(self) -> bool:
        return not self._going.is_set()

    def stop(self, point: str) -> None:
        self.may_stop, self.stopped_at = False, point
        self._going.clear()

    def go_on(self) -> None:
        self.may_stop = False
        self._going.set()

    async def stand(self) -> None:
        await self._going.wait()


class Stage:
    """One schedule of two actors: hook of the engine's points."""

    def __init__(self, first: Replica, second: Replica, choices: Choices, stops: Callable[[str], bool]) -> None:
        self.first, self.second = Actor(first), Actor(second)
        self._choices, self._stops = choices, stops
        self._progress = 0

    def __str__(self) -> str:
        places = [f"{a.replica.name} at {a.stopped_at} ({a.passed})" for a in (self.first, self.second)]
        return ", ".join(places)

    async def __call__(self, point: str) -> None:
        self._progress += 1
        replica = here()
        for actor in (self.first, self.second):
            if actor.replica is not replica:
                continue
            if actor.may_stop and self._stops(point):
                actor.passed += 1
                if self._choices.pick(2):
                    actor.stop(point)
            while actor.stopped:
                await actor.stand()
            self._progress += 1

    async def play(self, meeting: "Meeting", id: str) -> None:
        points.install(self)
        tasks: list[asyncio.Task[Any]] = []
        try:
            async with asyncio.timeout(15.0 * waiting.PATIENCE):
                self.first.may_stop = True
                tasks.append(self.first.replica.beside(meeting.first(id)))
                await self._still(tasks[0], self.first, 10.0)
                if self.first.stopped:
                    await meeting.stopped()
                    self.second.may_stop = True
                self.first.may_stop = False
                tasks.append(self.second.replica.beside(meeting.second(id)))
                await self._still(tasks[1], self.second)
                self.second.may_stop = False
                if self.first.stopped:
                    self.first.go_on()
                    await self._still(tasks[0], self.first)
                    await meeting.went_on()
                self.second.go_on()
                await asyncio.gather(*tasks)
        finally:
            points.install(None)
            self.first.go_on()
            self.second.go_on()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _still(self, task: "asyncio.Task[Any]", actor: Actor, stalled: float = STALLED) -> None:
        """Returns when somebody is done, is stopped, or does not get on."""
        loop = asyncio.get_running_loop()
        seen, since = self._progress, loop.time()
        while not task.done() and not actor.stopped:
            await asyncio.sleep(0.001)
            if self._progress != seen:
                seen, since = self._progress, loop.time()
            elif loop.time() - since > stalled:
                return


async def _nothing() -> None:
    """Nothing happens."""


@dataclass
class Meeting:
    """How two replicas meet over one workflow. Each schedule has an id of its own."""

    first: Callable[[str], Coroutine[Any, Any, Any]]
    second: Callable[[str], Coroutine[Any, Any, Any]]
    check: Callable[[str], Awaitable[None]]
    """What must hold when both are done."""
    stops: tuple[str, ...]
    """Where they are stopped: beginnings of names of points."""
    prepare: Callable[[str], Awaitable[None]] | None = None
    stopped: Callable[[], Awaitable[None]] = _nothing
    """What happens to the first one when it is stopped."""
    went_on: Callable[[], Awaitable[None]] = _nothing
    """What happens when it has then come as far as it can."""


@dataclass
class Tally:
    """What an exploration went through."""

    schedules: int = 0
    pairs: set[tuple[str | None, str | None]] = field(default_factory=set)
    writes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        points = {point for pair in self.pairs for point in pair if point}
        return (
            f"{self.schedules} schedules, {len(points)} points, {self.writes} writes seen,"
            f" {1000 * self.seconds / max(1, self.schedules):.0f} ms each"
        )


async def explore(first: Replica, second: Replica, meeting: Meeting, *, at_most: int | None = None) -> Tally:
    """Go through all pairs of moments."""
    tally, began = Tally(), time.perf_counter()
    for choices in islice(exhaustive(), at_most):
        id = f"w{next(_numbers)}"
        for replica in (first, second):
            replica.ran.clear()
        await first.audit.forget()
        if meeting.prepare is not None:
            await meeting.prepare(id)
        stage = Stage(first, second, choices, lambda point: point.startswith(meeting.stops))
        try:
            await stage.play(meeting, id)
            await meeting.check(id)
            await first.audit.is_content()
        except BaseException as error:
            error.add_note(f"{stage}\n{await first.state(id)}")
            raise
        tally.schedules += 1
        tally.pairs.add((stage.first.stopped_at, stage.second.stopped_at))
        tally.writes += await first.audit.forget()
    tally.seconds = time.perf_counter() - began
    return tally


@asynccontextmanager
async def replicas(url: str, *names: str, **limits: Any) -> AsyncIterator[list[Replica]]:
    """Engines on one database that has the witness."""
    await audit.install(url)
    made = [Replica(url, name, **limits) for name in names]
    try:
        for replica in made:
            await replica.start()
        yield made
    finally:
        for replica in made:
            await replica.close()


class Halt:
    """Stops a replica inside of a statement that starts workflows or records steps: it has read what it goes by, and
    has written nothing.

    The point of `nth` is the last one that it passes before."""

    def __init__(self, replica: Replica, nth: int, before: tuple[str, ...]) -> None:
        self._replica, self._left, self._before = replica, nth, before
        self._lock: psycopg.AsyncConnection[Any] | None = None

    async def __call__(self, point: str) -> None:
        if here() is self._replica and point in self._before:
            self._left -= 1
            if self._left == 0:
                self._lock = await psycopg.AsyncConnection.connect(self._replica.url, autocommit=True)
                await self._lock.execute("select pg_advisory_lock(hashtext(%s))", [f"halt {self._replica.writer}"])

    @property
    def armed(self) -> bool:
        """Whether the replica has come to its point."""
        return self._left <= 0

    async def strikes(self) -> bool:
        """Whether it stands still now."""
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        return bool(await self._replica.one(waiting))

    async def release(self) -> None:
        points.install(None)
        if self._lock is not None:
            await self._lock.close()
            self._lock = None
