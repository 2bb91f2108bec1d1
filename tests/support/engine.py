"""The engine in this process, on a test's database: it runs workflows, is killed, and comes back.

A kill takes effect at once, in the middle of whatever is going on: nothing more is written, nothing is
handed over, and the connections are gone. The next life finds its predecessor declared dead.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TypeVar

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import event

from app import values
from app.authoring import Registry, definitions
from app.engine import points
from app.engine.commands import Start
from app.engine.runtime import Limits, Runtime
from app.errors import DatabaseUnavailable
from app.model import JsonText, Status, Workflow, WorkflowId
from app.store import db
from tests.support import ways
from tests.support.waiting import PATIENCE, eventually

T = TypeVar("T")
Function = Callable[..., Awaitable[Any]]
Row = dict[str, Any]

QUICK: Mapping[str, Any] = {"linger": 0.02, "beat": 0.2, "grace": 1.0, "step_threads": 8}


class TestDatabase(db.Database):
    """Knows its connections, so that a crash can take them along."""

    __test__ = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._opened: list[db.Connection] = []
        event.listen(
            self._engine.sync_engine, "connect", lambda adapted, _: self._opened.append(adapted.driver_connection)
        )

    async def connect(self, duty: str, **options: Any) -> db.Connection:
        connection = await super().connect(duty, **options)
        self._opened.append(connection)
        return connection

    async def crash(self) -> None:
        await self.close()
        for connection in self._opened:
            await db.close(connection)


class Engine:
    """One runtime after the other on one database. Definitions may be added at any time."""

    def __init__(self, url: str, *, by: str | None = None, **limits: Any) -> None:
        """`by`: the URL by which the engine reaches the database, where that is another one."""
        self.url = url
        self.by = by or ways.by_way(url)
        self.registry = Registry()
        self.ran: list[str] = []
        """What step bodies note of their runs, over all lives."""
        self.lives = 0
        self._limits = Limits(**{"notifications": ways.NOTIFICATIONS, **QUICK, **limits})
        self._ids = itertools.count(1)
        self._outside: set[asyncio.Task[Any]] = set()
        self._runtime: Runtime | None = None
        self._database: TestDatabase | None = None
        self._eye: psycopg.AsyncConnection[Row] | None = None
        self.killed = asyncio.Event()

    @property
    def runtime(self) -> Runtime:
        assert self._runtime, "the engine does not live"
        return self._runtime

    @property
    def executor(self) -> str:
        """The id of the executor of this life."""
        return self.runtime.executor_id()

    # ---- life

    def open(self) -> TestDatabase:
        """The database of a new life."""
        return TestDatabase(self.by)

    async def start(self) -> Self:
        self._outside |= asyncio.all_tasks()
        if self._eye is None:
            self._eye = await psycopg.AsyncConnection.connect(
                self.url, autocommit=True, row_factory=dict_row, options="-c timezone=UTC"
            )
        self.lives += 1
        self.killed.clear()
        self._database = self.open()
        self._runtime = Runtime(
            self._database, self.registry, version="test", public_url="http://milepost.test", limits=self._limits
        )
        await self._runtime.start()
        return self

    def kill(self) -> None:
        """As `kill -9`: takes effect here and now. `crash` has to follow, to bury it."""
        self.runtime._executor.drop_all()
        for task in self._living():
            # A connection that is on its way back to the pool is closed by nobody else.
            if _named(task) != "AsyncConnection.close":
                task.cancel()
        self.killed.set()

    async def bury(self) -> None:
        """Wait until nothing of a killed life moves any more, and declare it dead."""
        self.kill()
        runtime, database = self.runtime, self._database
        assert database
        while living := self._living():
            await asyncio.wait(living, timeout=0.5)
            self.kill()
        runtime._threads.shutdown(wait=False, cancel_futures=True)
        await runtime._outbound.close()
        await database.crash()
        await self.execute("update executors set alive = false where id = %s", runtime.executor_id())
        self._runtime = None

    async def crash(self) -> None:
        """Kill it, and have a new life take over at once."""
        await self.bury()
        await self.start()

    async def stop(self) -> None:
        """An orderly end, if it lives."""
        if self._runtime is not None:
            await self._runtime.stop()
            self._runtime = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def close(self) -> None:
        points.install(None)
        await self.stop()
        if self._eye is not None:
            await self._eye.close()

    def beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of the test's own: it outlives the engine."""
        task = asyncio.get_running_loop().create_task(work)
        self._outside.add(task)
        return task

    def _living(self) -> set[asyncio.Task[Any]]:
        current = asyncio.current_task()
        # The runner of async tests makes a task for each test, besides the one that runs them.
        return {
            task
            for task in asyncio.all_tasks() - self._outside
            if task is not current and not _named(task).startswith("TestRunner.")
        }

    # ---- authoring

    def workflow(self, function: Function | None = None, /, **options: Any) -> Any:
        """`@workflow`, into this engine's registry."""
        decorate = definitions.workflow(registry=self.registry, **options)
        return decorate if function is None else decorate(function)

    # ---- commands

    async def begin(self, function: Function | str, input: Any = None, *, id: str | None = None, **more: Any) -> str:
        """Start a workflow; returns its id."""
        name = function if isinstance(function, str) else definitions.of(function).name
        text = None if input is None else values.encode(input)
        start = Start(name, text, WorkflowId(id or f"w{next(self._ids)}"), **more)
        return (await self.runtime.commands.start(start)).workflow.id

    async def end(self, id: str, timeout: float = 10.0) -> Workflow:
        """The workflow when it has ended."""
        workflow = await self.runtime.views.result(WorkflowId(id), timeout * PATIENCE)
        assert workflow.status.terminal, f"{id} is still {workflow.status} after {timeout:g} s: {await self.state(id)}"
        return workflow

    async def output(self, id: str, timeout: float = 10.0) -> Any:
        """What a workflow returns, when it has."""
        workflow = await self.end(id, timeout)
        assert workflow.status is Status.SUCCEEDED, f"{id} is {workflow.status}: {workflow.error}"
        return values.decode(workflow.output or "null")

    async def error(self, id: str, timeout: float = 10.0) -> Any:
        """Why a workflow failed, when it has: {type, message, step, details}."""
        workflow = await self.end(id, timeout)
        assert workflow.status is Status.FAILED, f"{id} is {workflow.status}: {workflow.output}"
        return values.decode(workflow.error or "null")

    async def run(self, function: Function | str, input: Any = None, **more: Any) -> Any:
        """Start a workflow and return what it returns."""
        return await self.output(await self.begin(function, input, **more))

    async def send(self, id: str, topic: str, payload: Any = None, key: str | None = None) -> None:
        await self.runtime.commands.send(WorkflowId(id), topic, values.encode(payload), key)

    async def cancel(self, id: str) -> Workflow:
        return await self.runtime.commands.cancel(WorkflowId(id))

    async def resume(self, id: str) -> Workflow:
        return await self.runtime.commands.resume(WorkflowId(id))

    # ---- what is in the database

    async def rows(self, query: str, *params: Any) -> list[Row]:
        assert self._eye
        return await (await self._eye.execute(query.encode(), params)).fetchall()

    async def execute(self, statement: str, *params: Any) -> None:
        assert self._eye
        await self._eye.execute(statement.encode(), params)

    async def one(self, query: str, *params: Any) -> Any:
        """The only value of the only row."""
        (row,) = await self.rows(query, *params)
        (value,) = row.values()
        return value

    async def status(self, id: str) -> str | None:
        found = await self.rows("select status from workflows where id = %s", id)
        return found[0]["status"] if found else None

    async def steps(self, id: str) -> list[Row]:
        """The records of durable calls, in the order of the calls."""
        return await self.rows("select * from steps where workflow_id = %s order by seq", id)

    async def events(self, id: str) -> list[tuple[str, Any]]:
        """(key, value) of the whole log."""
        return [(row["key"], row["value"]) for row in await self.log(id)]

    async def log(self, id: str) -> list[Row]:
        return await self.rows("select * from events where workflow_id = %s order by position", id)

    async def state(self, id: str) -> str:
        """All that is known of a workflow, for a failing test."""
        rows = {
            table: await self.rows(f"select * from {table} where {column} = %s", id)
            for table, column in [("workflows", "id"), *((t, "workflow_id") for t in ("steps", "events", "waits"))]
        }
        return "\n".join(f"{table}: {row}" for table, found in rows.items() for row in found)

    # ---- waiting

    async def becomes(self, id: str, *statuses: str, timeout: float = 10.0) -> None:
        async def there() -> bool:
            return await self.status(id) in statuses

        await eventually(there, timeout, message=f"{id} does not become {' or '.join(statuses)}")

    async def published(self, id: str, key: str, value: Any = None) -> None:
        """Wait until a key is set (to a value) for everybody to see."""

        async def there() -> bool:
            return any(k == key and value in (None, v) for k, v in await self.events(id))

        await eventually(there, message=f"{id} does not publish {key}")

    async def noted(self, *what: str) -> None:
        """Wait until step bodies have noted all of this."""
        await eventually(lambda: set(what) <= set(self.ran), message=lambda: f"{what} is not in {self.ran}")

    async def noted_times(self, what: str, times: int) -> None:
        await eventually(
            lambda: self.ran.count(what) >= times, 15, lambda: f"{what} is not {times} times in {self.ran}"
        )

    def holds(self, id: str) -> bool:
        """Whether the code of a workflow is in memory."""
        executor = self.runtime._executor
        return id in executor._runs or id in executor._parked

    async def forgotten(self, id: str) -> None:
        """Wait until a parked workflow has left memory."""
        await self.becomes(id, "WAITING")
        await self.lets_go(id)

    async def lets_go(self, id: str) -> None:
        await eventually(lambda: not self.holds(id), message=f"{id} stays in memory")


@asynccontextmanager
async def running(url: str, **limits: Any) -> AsyncIterator[Engine]:
    engine = Engine(url, **limits)
    try:
        yield await engine.start()
    finally:
        await engine.close()


def _named(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", ""))


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """As a client does: ask again while the database is away."""
    while True:
        with suppress(DatabaseUnavailable):
            return await ask()


def text(value: Any) -> JsonText:
    return values.encode(value)
