"""Two replicas in one process: each has an event loop, a thread and connections of its own, and nothing in common.

A replica can be killed at once, or frozen as by SIGSTOP: its thread stands still wherever it is, its connections
stay open, and when it goes on it does not know that any time has passed.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import uvloop

from app.api.application import build
from app.engine import points
from app.store import db
from tests.model.asgi import NOTHING, PATIENCE, Answer, Exchange, answered
from tests.model.puppet import register
from tests.support import explore
from tests.support.engine import TestDatabase
from tests.support.waiting import eventually_sync

T = TypeVar("T")


@dataclass
class Trap:
    """What is to happen when a replica passes a point for the nth time."""

    point: str
    nth: int
    do: Callable[[], Awaitable[None]]
    passed: int = 0
    struck: bool = False

    async def pass_by(self, point: str) -> None:
        if point == self.point:
            self.passed += 1
            if self.passed == self.nth:
                self.struck = True
                await self.do()


class _Database(explore._Database):
    """Tells of each commit before anybody else knows of it; what is raised then stands for its answer."""

    def __init__(self, url: str, writer: str, committed: Callable[[], Awaitable[None]]) -> None:
        super().__init__(url, writer)
        self._committed = committed

    @asynccontextmanager
    async def transaction(self, *, translate: bool = True) -> AsyncGenerator[db.Connection]:
        async with db.available() if translate else nullcontext():
            async with super().transaction(translate=translate) as connection:
                yield connection
            await self._committed()


class _Engine(explore.Replica):
    def open(self) -> TestDatabase:
        return _Database(self.url, self.writer, lambda: points.point("database.after_commit"))


class Replica:
    def __init__(self, name: str, url: str, **limits: Any) -> None:
        self.name = name
        self.engine = _Engine(url, name, **limits)
        self.trap: Trap | None = None
        self.up = False
        self.frozen = False
        self._thaw = threading.Event()
        self._app: Any = None
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()
        register(self.engine)

    def __repr__(self) -> str:
        return self.name

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.submit(work).result(PATIENCE)

    # ---- life

    def start(self) -> None:
        self.run(self._start())
        self.up = True

    async def _start(self) -> None:
        await self.engine.start()
        self._app = build(self.engine.runtime, public_url="http://milepost.test")

    def kill(self) -> None:
        """At once, wherever it is; what it runs is for others from now on."""
        self.up, self.trap = False, None
        self.run(self.engine.bury())

    def restart(self) -> None:
        self.run(self.engine.stop())
        self.start()

    def close(self) -> None:
        self.thaw()
        self.trap = None
        self.run(self.engine.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    def take_over(self) -> None:
        """Look now for what the dead have left; else it would be with one of the next beats."""
        self.loop.call_soon_threadsafe(self.engine.runtime._recovery.poke)

    def watched(self, workflow_id: str, place: str) -> bool:
        """Whether somebody waits for that here."""
        return place in self.engine.runtime.hub._watches.get(workflow_id, ())

    # ---- traps

    def kill_at(self, point: str, nth: int) -> Trap:
        async def die() -> None:
            self.engine.kill()
            if (task := asyncio.current_task()) is not None:
                task.cancel()
            await asyncio.Event().wait()

        return self._set(point, nth, die)

    def lose_at(self, point: str, nth: int) -> Trap:
        """The connection breaks there: before a commit it never arrived, after it nobody is told of it."""

        async def lose() -> None:
            raise psycopg.OperationalError("the connection was cut by a test")

        return self._set(point, nth, lose)

    def freeze_at(self, point: str, nth: int) -> Trap:
        async def freeze() -> None:
            self.stand_still()

        return self._set(point, nth, freeze)

    def freeze(self, unless: Trap | None = None) -> None:
        """Here and now, unless a trap has done so."""

        def freeze() -> None:
            self.trap = None
            if unless is None or not unless.struck:
                self.stand_still()

        self.loop.call_soon_threadsafe(freeze)
        eventually_sync(lambda: self.frozen)

    def stand_still(self) -> None:
        self._thaw.clear()
        self.frozen = True
        self._thaw.wait()

    def end_idle_transactions_of(self, other: "Replica") -> None:
        """As the server does when somebody stands still inside of one for too long."""
        self.run(
            self.engine.rows(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where state like 'idle in transaction%%' and pid = any (%s)",
                other.pids,
            )
        )

    @property
    def pids(self) -> list[int]:
        """The server's processes of its sessions."""
        database = self.engine._database
        opened = [] if database is None else database._opened
        return [connection.info.backend_pid for connection in opened if not connection.closed]

    def thaw(self) -> None:
        self.frozen = False
        self._thaw.set()

    def _set(self, point: str, nth: int, do: Callable[[], Awaitable[None]]) -> Trap:
        self.trap = Trap(point, nth, do)
        return self.trap

    # ---- requests

    def begin(self, exchange: Exchange) -> "Future[Answer]":
        return self.submit(exchange.with_(self._app))

    def ask(self, method: str, target: str, body: Any = NOTHING, **more: Any) -> Answer:
        """`more` is what an exchange takes besides; raises Lost when the replica is killed meanwhile."""
        answer = answered(self.begin(Exchange(method, target, body, **more)))
        for _ in range(10):
            if answer.status != 503:
                break
            # As from a machine that is busy with something else: every request is one that may be repeated.
            answer = answered(self.begin(Exchange(method, target, body, **more)))
            answer.repeated = True
        return answer

    async def gather(self, *targets: str) -> list[Answer]:
        """Several GETs at once, each an answer of its own."""
        return list(await asyncio.gather(*map(self._get, targets)))

    async def _get(self, target: str) -> Answer:
        answer = Answer(503)
        for _ in range(10):
            if answer.status == 503:
                answer = await Exchange("GET", target).with_(self._app)
        return answer


@contextmanager
def replicas(url: str) -> Iterator[tuple[Replica, Replica]]:
    """One that keeps parked workflows in memory, and one that forgets them at once and runs few at a time."""
    limits = {"linger": 0.02, "beat": 0.2, "time_to_live": 600.0, "grace": 2.0}
    both = Replica("A", url, cache=100, **limits), Replica("B", url, cache=0, concurrency=3, **limits)
    by_loop: dict[Any, Replica] = {replica.loop: replica for replica in both}

    async def hook(point: str) -> None:
        replica = by_loop.get(asyncio.get_running_loop())
        if replica is not None and replica.trap is not None:
            await replica.trap.pass_by(point)

    try:
        for replica in both:
            replica.start()
        points.install(hook)
        yield both
    finally:
        for replica in both:
            replica.close()
        points.install(None)
