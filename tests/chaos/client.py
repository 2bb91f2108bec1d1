"""A client of all replicas that costs little, and the record of every request that it makes.

Requests go out over kept connections, one at a time on each. `time` is the monotonic clock of this machine, which is
the one that all is measured by; `wall` turns it into the time that the database writes down.
"""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

HOST = "127.0.0.1"
LOST = (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ValueError)
"""What a request may raise whose answer did not come, or not whole."""


def wall(at: float) -> float:
    """The time of day of a moment that is not long ago: the two clocks drift apart."""
    return at + time.time() - time.monotonic()


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    """503 with Retry-After."""
    LOST = "lost"
    """No answer: it may have been carried out or not."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Operation:
    """One request, and what came of it."""

    kind: str
    workflow_id: str
    replica: str
    began: float
    ended: float
    outcome: Outcome
    status: int
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Look:
    """A read of one key, by the time of day: the position that was told, and how long it might have waited."""

    workflow_id: str
    key: str
    replica: str
    began: float
    ended: float
    after: int
    timeout: float
    position: int
    pending: bool
    drained: bool


@dataclass
class Records:
    """All that was asked and answered."""

    operations: list[Operation] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    """What was refused or lost, by kind and reason."""

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self.outcomes[operation.outcome] += 1
        self.kinds[operation.kind] += 1
        if operation.outcome in (Outcome.REFUSED, Outcome.LOST):
            self.unanswered[f"{operation.kind}: {operation.detail}"] += 1
        if operation.outcome is Outcome.WRONG:
            whom = f"{operation.kind} of {operation.workflow_id} at {operation.replica}"
            self.violate(f"{whom}: {operation.status} {operation.detail}")

    def violate(self, what: str) -> None:
        self.violations.append(what)

    def history(self, workflow_id: str) -> list[Operation]:
        return [operation for operation in self.operations if operation.workflow_id == workflow_id]


class Client:
    """Asks replicas, which are known by their names."""

    def __init__(self, ports: Mapping[str, int], records: Records, rng: random.Random) -> None:
        self._ports, self.records, self._rng = ports, records, rng
        self._kept: dict[str, deque[Connection]] = defaultdict(deque)

    def any_replica(self) -> str:
        return self._rng.choice(list(self._ports))

    async def ask(
        self,
        kind: str,
        workflow_id: str,
        method: str,
        target: str,
        body: Any = None,
        *,
        expected: frozenset[int] | set[int],
        headers: Mapping[str, str] | None = None,
        timeout: float = 6.0,
    ) -> tuple[Answer | None, Operation]:
        """Make one request of a replica; None: it was refused or lost. What is not expected is a violation."""
        answer: Answer | None = None
        detail: Any = None
        replica, connection = await self._anybody()
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                answer = await self._exchange(replica, connection, method, target, body, headers or {})
        except LOST as error:
            outcome, detail = Outcome.LOST, type(error).__name__
        else:
            outcome = _judged(answer, expected)
            if outcome is Outcome.REFUSED:
                detail = answer.json["code"]
            elif outcome is Outcome.WRONG:
                detail = answer.body[:300].decode(errors="replace")
        status = answer.status if answer else 0
        operation = Operation(kind, workflow_id, replica, began, time.monotonic(), outcome, status, detail)
        self.records.add(operation)
        return (answer if outcome is Outcome.OK else None), operation

    async def _anybody(self) -> tuple[str, Connection]:
        """A connection to any replica that is there, as from a balancer; while there is none, nothing is asked."""
        while True:
            for replica in self._rng.sample(list(self._ports), len(self._ports)):
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(3):
                        return replica, await self._connection(replica)
            await asyncio.sleep(self._rng.uniform(0.1, 0.5))

    async def _connection(self, replica: str) -> Connection:
        kept = self._kept[replica]
        while kept and (kept[-1][0].at_eof() or kept[-1][1].is_closing()):
            kept.pop()[1].close()
        return kept.pop() if kept else await asyncio.open_connection(HOST, self._ports[replica])

    async def insist(
        self, kind: str, workflow_id: str, method: str, target: str, body: Any = None, **more: Any
    ) -> Answer:
        """Ask one replica after the other until one answers as expected."""
        pause = 0.2
        while True:
            answer, _ = await self.ask(kind, workflow_id, method, target, body, **more)
            if answer is not None:
                return answer
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * pause)
            pause = min(2 * pause, 2.0)

    async def peek(self, replica: str, target: str, timeout: float = 2.0) -> Answer | None:
        """A request that is not on record."""
        with suppress(*LOST):
            async with asyncio.timeout(timeout):
                return await self._exchange(replica, await self._connection(replica), "GET", target, None, {})
        return None

    async def stream(self, replica: str, target: str, headers: Mapping[str, str]) -> AsyncGenerator[Answer | str]:
        """First an answer without a body, then the lines of a stream; raises one of LOST when it breaks off."""
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection(HOST, self._ports[replica])
        try:
            async with asyncio.timeout(6):
                writer.write(_head("GET", target, self._ports[replica], b"", headers))
                status, fields = await _read_head(reader)
            yield Answer(status, fields, b"")
            if "transfer-encoding" not in fields:
                return
            text = ""
            while True:
                # A comment comes each 15 seconds.
                async with asyncio.timeout(25):
                    size = int(await reader.readline(), 16)
                    text += (await reader.readexactly(size + 2))[:-2].decode()
                *lines, text = text.split("\n")
                for line in lines:
                    yield line
                if size == 0:
                    return
        finally:
            writer.close()

    async def _exchange(
        self, replica: str, connection: Connection, method: str, target: str, body: Any, headers: Mapping[str, str]
    ) -> Answer:
        reader, writer = connection
        try:
            text = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
            writer.write(_head(method, target, self._ports[replica], text, headers) + text)
            status, fields = await _read_head(reader)
            answer = Answer(status, fields, await reader.readexactly(int(fields.get("content-length", 0))))
        except BaseException:
            writer.close()
            raise
        if fields.get("connection") == "close":
            writer.close()
        else:
            self._kept[replica].append(connection)
        return answer

    def close(self) -> None:
        for kept in self._kept.values():
            for _, writer in kept:
                writer.close()


def _head(method: str, target: str, port: int, text: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {quote(target, safe='/?&=:%.~-_')} HTTP/1.1", f"Host: {HOST}:{port}"]
    if text:
        lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return int(first[9:12]), {name.lower(): value.strip() for name, _, value in fields}


def _judged(answer: Answer, expected: frozenset[int] | set[int]) -> Outcome:
    if answer.status in expected:
        return Outcome.OK
    return Outcome.REFUSED if answer.status == 503 and "retry-after" in answer.headers else Outcome.WRONG
