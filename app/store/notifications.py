"""LISTEN and NOTIFY, on one channel for all: a payload is an executor, a number, and workflow ids."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence

from app.model import ExecutorId
from app.store import db

CHANNEL = "milepost"
LONGEST = 7_900
"""Bytes of a payload; PostgreSQL takes fewer than 8,000."""
_HEAD = 64
_NOTIFY = "select pg_notify(%(channel)s, p) from unnest(%(payloads)s::text[]) p"


def parts(ids: Sequence[str]) -> Iterator[list[str]]:
    """Ids in portions that fit into one payload each."""
    part: list[str] = []
    size = _HEAD
    for id in ids:
        if part and size + len(id) + 1 > LONGEST:
            yield part
            part, size = [], _HEAD
        part.append(id)
        size += len(id) + 1
    if part:
        yield part


def payload(executor: ExecutorId, number: int, ids: Sequence[str]) -> str:
    return " ".join([executor, str(number), *ids])


def parse(text: str) -> tuple[ExecutorId, int, list[str]]:
    executor, number, *ids = text.split(" ")
    return ExecutorId(executor), int(number), ids


async def notify(line: db.Line, payloads: Sequence[str]) -> None:
    await line.rows(_NOTIFY, {"channel": CHANNEL, "payloads": payloads})


async def listen(connection: db.Connection, patience: float) -> bool:
    """Whether what is sent on the channel arrives at this connection, by sending something to oneself.

    Behind a pooler it is not tried: the session that listened would be left to somebody else, and what oneself sends
    may well arrive, by the very session that happens to listen.
    """
    if not db.direct(connection):
        return False
    await connection.execute(f"listen {CHANNEL}")
    probe = payload(ExecutorId(uuid.uuid4().hex), 0, [])
    await connection.execute("select pg_notify(%s, %s)", [CHANNEL, probe])
    async for notice in connection.notifies(timeout=patience):
        if notice.payload == probe:
            return True
    return False


async def received(connection: db.Connection) -> AsyncIterator[str]:
    """Payloads as they arrive; raises what the driver raises when the connection is lost."""
    async for notice in connection.notifies():
        yield notice.payload
