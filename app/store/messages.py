"""Messages and callbacks. A send locks its target first and looks at the rest in a later statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.model import ExecutorId, JsonText, Message, Status, WorkflowId
from app.store import db, statements

_SQL = statements.load("messages")


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message that an idempotency key stands for already."""

    message: Message
    payload_hash: bytes


@dataclass(frozen=True, slots=True)
class Locked:
    id: str
    status: Status
    generation: int
    executor: ExecutorId | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be appended; `id` is a UUID, `payload_hash` the digest of its JSON value."""

    target: WorkflowId
    id: str
    topic: str
    payload: JsonText
    payload_hash: bytes
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Unread:
    """What a receive finds: how many messages have come in all, and the next unread one, if any."""

    inbox: int
    position: int | None
    payload: JsonText | None


_LOCKS = {skip: _SQL["lock"].replace("{skip}", "skip locked" if skip else "") for skip in (True, False)}


async def lock(connection: db.Connection, ids: Sequence[str], *, skip: bool = False) -> dict[str, Locked]:
    """Hold the rows of these workflows; left out is what does not exist and, with `skip`, what somebody holds."""
    rows = await db.rows(connection, _LOCKS[skip], {"ids": sorted(set(ids))})
    return {row.id: Locked(row.id, Status(row.status), row.generation, row.executor_id) for row in rows}


def _message(row: Any) -> Message:
    return Message(
        row.id,
        row.workflow_id,
        row.topic,
        row.payload,
        row.position,
        row.event_position,
        row.sent_at,
        row.received_at,
    )


async def existing(connection: db.Connection, ids: Sequence[str]) -> set[str]:
    return {row.id for row in await db.rows(connection, _SQL["existing"], {"ids": list(ids)})}


async def by_key(connection: db.Connection, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Earlier]:
    """What was sent before under (workflow id, idempotency key) pairs."""
    params = {"ids": [id for id, _ in pairs], "keys": [key for _, key in pairs]}
    return {
        (row.workflow_id, row.idempotency_key): Earlier(
            _message(row),
            bytes(row.payload_hash),
        )
        for row in await db.rows(connection, _SQL["by_key"], params)
    }


async def send(connection: db.Connection, drafts: Sequence[Draft]) -> list[Message]:
    """Append to workflows that `lock` holds and that are active; in order of the drafts."""
    listed = ",".join(
        f'{{"n":{n},"target":"{d.target}","id":"{d.id}","topic":{json.dumps(d.topic)},"payload":{d.payload},'
        f'"payload_hash":"{d.payload_hash.hex()}","idempotency_key":{json.dumps(d.idempotency_key)}}}'
        for n, d in enumerate(drafts)
    )
    rows = await db.rows(connection, _SQL["send"], {"messages": f"[{listed}]", "ids": [d.target for d in drafts]})
    written = {row.id: row for row in rows}
    return [
        Message(
            d.id,
            d.target,
            d.topic,
            d.payload,
            written[d.id].position,
            written[d.id].event_position,
            written[d.id].sent_at,
            None,
        )
        for d in drafts
    ]


async def unread(line: db.Line, wanted: Sequence[tuple[str, str, int]]) -> list[Unread | None]:
    """For each (workflow id, topic, after position) the next unread message; None: no such workflow."""
    found: list[Unread | None] = [None] * len(wanted)
    params = {
        "ids": [id for id, _, _ in wanted],
        "topics": [topic for _, topic, _ in wanted],
        "after": [after for _, _, after in wanted],
    }
    for row in await line.rows(_SQL["unread"], params):
        found[row.n - 1] = Unread(row.inbox, row.position, row.payload)
    return found


async def page(
    connection: db.Connection, id: WorkflowId, *, topic: str | None, after: int, limit: int
) -> list[Message]:
    rows = await db.rows(connection, _SQL["page"], {"id": id, "topic": topic, "after": after, "limit": limit})
    return [_message(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Callback:
    workflow_id: WorkflowId
    seq: int
    topic: str


async def callback(line: db.Line, token_hash: bytes) -> Callback | None:
    """What a token stands for; None when it is unknown or has expired."""
    rows = await line.rows(_SQL["callback"], {"token_hash": token_hash})
    return Callback(rows[0].workflow_id, rows[0].seq, rows[0].topic) if rows else None


async def secret(line: db.Line) -> bytes:
    return bytes((await line.rows(_SQL["secret"], {}))[0].value)
