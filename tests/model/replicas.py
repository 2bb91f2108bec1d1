"""Two replicas in one process: each has an event loop, a thread and connections of its own, and nothing in common.

A replica can be killed at once, or frozen as by SIGSTOP: its thread stands still wherever it is, its connections
stay open, and when it goes on it does not know that any time has passed.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import uvloop
from starlette.types import Message

from app.api.application import build
from app.engine import points
from tests.model.puppet import register
from tests.support.engine import Engine
from tests.support.waiting import eventually_sync

T = TypeVar("T")

PATIENCE = 30.0


class Lost(Exception):
    """The replica was killed before it had answered."""


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        return self.json["code"] if self.headers.get("content-type") == "application/problem+json" else None


class Exchange:
    """One request over ASGI. A client that has `enough` of an answer goes away."""

    def __init__(
        self,
        method: str,
        target: str,
        body: Any,
        headers: Mapping[str, str],
        enough: Callable[[Answer], bool] | None = None,
    ) -> None:
        self._method, self._target, self._enough = method, target, enough
        self._body = b"" if body is None else json.dumps(body).encode()
        self._headers = {"host": "localhost", **headers}
        if body is not None:
            self._headers |= {"content-type": "application/json", "content-length": str(len(self._body))}
        self._sent, self._gone = False, asyncio.Event()
        self.answer = Answer()

    def leave(self) -> None:
        self._gone.set()

    async def with_(self, app: Callable[..., Awaitable[None]]) -> Answer:
        path, _, query = self._target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self._headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        await app(scope, self._receive, self._send)
        return self.answer

    async def _receive(self) -> Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.answer.text += message.get("body", b"").decode()
        if self._enough is not None and self._enough(self.answer):
            self._gone.set()


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


class Replica:
    def __init__(self, name: str, url: str, **limits: Any) -> None:
        self.name = name
        self.engine = Engine(url, **limits)
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

    def thaw(self) -> None:
        self.frozen = False
        self._thaw.set()

    def _set(self, point: str, nth: int, do: Callable[[], Awaitable[None]]) -> Trap:
        self.trap = Trap(point, nth, do)
        return self.trap

    # ---- requests

    def exchange(self, method: str, target: str, body: Any = None, enough: Any = None, **headers: str) -> Exchange:
        return Exchange(method, target, body, {n.replace("_", "-"): v for n, v in headers.items()}, enough)

    def begin(self, exchange: Exchange) -> "Future[Answer]":
        return self.submit(exchange.with_(self._app))

    def ask(self, method: str, target: str, body: Any = None, enough: Any = None, **headers: str) -> Answer:
        return answered(self.begin(self.exchange(method, target, body, enough, **headers)))

    async def gather(self, *targets: str) -> list[Answer]:
        """Several GETs at once, each an answer of its own."""
        asked = (self.exchange("GET", target).with_(self._app) for target in targets)
        return list(await asyncio.gather(*asked))


def answered(asked: "Future[Answer]") -> Answer:
    """Raises Lost when the replica has died meanwhile."""
    try:
        answer = asked.result(PATIENCE)
    except CancelledError:
        raise Lost from None
    if not answer.status:
        raise Lost
    return answer


@contextmanager
def replicas(url: str) -> Iterator[tuple[Replica, Replica]]:
    """One that keeps parked workflows in memory, and one that forgets them at once."""
    limits = {"linger": 0.02, "beat": 0.2, "time_to_live": 600.0, "grace": 2.0}
    both = Replica("A", url, cache=100, **limits), Replica("B", url, cache=0, **limits)
    by_loop = {replica.loop: replica for replica in both}
    passed: Counter[str] = Counter()

    async def hook(point: str) -> None:
        passed[point] += 1
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
