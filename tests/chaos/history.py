"""What the database holds of each workflow at the end, and what its steps left outside."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from tests.support.gates import notes

AT_A_TIME = 2000

WORKFLOWS = """
select id, name, status, input, output, error, attempts, parent_id, inbox
from workflows
order by id
"""
STEPS = """
select workflow_id, seq, done, kind, output, error, child_id,
       extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as committed
from steps
order by workflow_id, seq
"""
EVENTS = """
select workflow_id, position, key, value, step,
       extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as committed
from events
order by workflow_id, position
"""
MESSAGES = """
select workflow_id, position, topic, payload, idempotency_key as key, received_seq,
       extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as committed
from messages
order by workflow_id, position
"""
LEDGER = """
select workflow_id, label, counter, token
from ledger
order by workflow_id collate "C"
"""


@dataclass(frozen=True)
class Step:
    seq: int
    done: int
    kind: str
    output: Any
    error: Any
    child_id: str | None
    committed: float


@dataclass(frozen=True)
class Event:
    position: int
    key: str
    value: Any
    step: int | None
    """The step inside of which it was set."""
    committed: float


@dataclass(frozen=True)
class Message:
    position: int
    topic: str
    payload: Any
    key: str | None
    received_seq: int | None
    committed: float
    """When it was sent or, if it has been, received."""


@dataclass(frozen=True)
class Write:
    """What a transaction of the workflow left behind."""

    label: str
    counter: int
    token: str


@dataclass
class History:
    id: str
    name: str
    status: str
    input: Any = None
    output: Any = None
    error: Any = None
    attempts: int = 1
    parent_id: str | None = None
    inbox: int = 0
    steps: list[Step] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    executions: dict[str, list[str]] = field(default_factory=dict)
    """The tokens of all executions of a step's body, by label."""


def executions(path: Path) -> dict[str, dict[str, list[str]]]:
    """By workflow and label."""
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for line in notes(path):
        id, label, _, token = line.split(" ")
        found[id].setdefault(label, []).append(token)
    return found


def read(url: str, done: dict[str, dict[str, list[str]]]) -> Iterator[History]:
    """All workflows, in the order of their ids."""
    with psycopg.connect(url, row_factory=namedtuple_row) as connection:
        connection.execute("set transaction isolation level repeatable read read only")
        steps, events = _Below(connection, "steps", STEPS), _Below(connection, "events", EVENTS)
        messages, writes = _Below(connection, "messages", MESSAGES), _Below(connection, "ledger", LEDGER)
        for row in _rows(connection, "workflows", WORKFLOWS):
            yield History(
                row.id,
                row.name,
                row.status,
                row.input,
                row.output,
                row.error,
                row.attempts,
                row.parent_id,
                row.inbox,
                [Step(*below[1:]) for below in steps.of(row.id)],
                [Event(*below[1:]) for below in events.of(row.id)],
                [Message(*below[1:]) for below in messages.of(row.id)],
                [Write(*below[1:]) for below in writes.of(row.id)],
                done.get(row.id, {}),
            )
        for rest in (steps, events, messages, writes):
            rest.finish()


def _rows(connection: Any, name: str, statement: str) -> Iterable[Any]:
    cursor = connection.cursor(name=name)
    cursor.itersize = AT_A_TIME
    cursor.execute(statement.encode())
    return cursor


class _Below:
    """Rows of a table, handed out workflow by workflow."""

    def __init__(self, connection: Any, name: str, statement: str) -> None:
        self._name, self._rows = name, iter(_rows(connection, name, statement))
        self._next = next(self._rows, None)

    def of(self, id: str) -> list[Any]:
        found = []
        while self._next is not None and self._next.workflow_id == id:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found

    def finish(self) -> None:
        assert self._next is None, f"{self._name} has rows of no workflow: {self._next}"
