"""The witness sees what it is there to see: each thing that may not be is done by hand."""

from collections.abc import AsyncIterator

import pytest

from tests.support import audit, rows
from tests.support.audit import introduce
from tests.support.sessions import Session, observer

STEP = (
    "insert into steps (workflow_id, seq, done, name, kind, digest, attempts, started_at, completed_at)"
    " values ('w', {seq}, {done}, 'pay', 'step', 0, 1, now(), now())"
)
EVENT = (
    "insert into events (workflow_id, position, key, value, done, set_at)"
    " values ('w', {position}, 'status', '1', {done}, now())"
)
MESSAGE = (
    "insert into messages (workflow_id, position, id, topic, payload, payload_hash, event_position, sent_at)"
    " values ('w', {position}, gen_random_uuid(), 'topic', '1', '', 0, now())"
)
RECEIVE = "update messages set received_seq = {seq} where workflow_id = 'w' and position = {position}"
DIES = "update executors set alive = false where id = 'xa'"
TAKE_OVER = "update workflows set executor_id = 'xb', generation = generation + {more} where id = 'w'"

Acts = list[tuple[str, str]]
"""Who does what."""

BREACHES: dict[str, tuple[str, Acts]] = {
    "another one's step": ("written by who does not own it", [("b", STEP.format(seq=1, done=1))]),
    "an event after the take-over": (
        "written by who does not own it",
        [("b", DIES), ("b", TAKE_OVER.format(more=1)), ("a", EVENT.format(position=1, done=0))],
    ),
    "a step after the end": (
        "written by who does not own it",
        [
            ("b", "update workflows set status = 'CANCELLED', completed_at = now() where id = 'w'"),
            ("a", STEP.format(seq=1, done=1)),
        ],
    ),
    "another one's end": (
        "written by who does not own it",
        [("b", "update workflows set status = 'SUCCEEDED', completed_at = now() where id = 'w'")],
    ),
    "a robbery": ("taken from somebody alive", [("b", TAKE_OVER.format(more=1))]),
    "a generation twice": ("a generation repeated or left out", [("b", DIES), ("b", TAKE_OVER.format(more=0))]),
    "a generation left out": ("a generation repeated or left out", [("b", DIES), ("b", TAKE_OVER.format(more=2))]),
    "another output": (
        "a record was changed",
        [("a", STEP.format(seq=1, done=1)), ("a", "update steps set output = '2' where workflow_id = 'w'")],
    ),
    "a step twice": (
        "two records of one call, or of one outcome",
        [("a", STEP.format(seq=1, done=1)), ("a", "delete from steps"), ("a", STEP.format(seq=1, done=1))],
    ),
    "an outcome twice": (
        "two records of one call, or of one outcome",
        [("a", STEP.format(seq=1, done=1)), ("a", STEP.format(seq=2, done=1))],
    ),
    "a lost event": ("a gap in the events", [("a", EVENT.format(position=2, done=0))]),
    "an event by itself": (
        "an event apart from its step",
        [("a", STEP.format(seq=1, done=1)), ("a", EVENT.format(position=1, done=1))],
    ),
    "an event without its step": ("an event apart from its step", [("a", EVENT.format(position=1, done=1))]),
    "a message twice": (
        "a message received twice",
        [
            ("b", MESSAGE.format(position=1)),
            ("a", STEP.format(seq=1, done=1)),
            ("a", STEP.format(seq=2, done=2)),
            ("a", RECEIVE.format(seq=1, position=1)),
            ("a", RECEIVE.format(seq=2, position=1)),
        ],
    ),
    "two messages at once": (
        "a call that received twice",
        [
            ("b", MESSAGE.format(position=1)),
            ("b", MESSAGE.format(position=2)),
            ("a", STEP.format(seq=1, done=1)),
            ("a", RECEIVE.format(seq=1, position=1)),
            ("a", RECEIVE.format(seq=1, position=2)),
        ],
    ),
    "a message without its step": (
        "a message that the call which received it does not record",
        [("b", MESSAGE.format(position=1)), ("a", RECEIVE.format(seq=1, position=1))],
    ),
    "an orphan": (
        "left behind by a deletion",
        [("a", STEP.format(seq=1, done=1)), ("b", "delete from workflows where id = 'w'")],
    ),
}


@pytest.fixture
async def writers(database_url: str) -> AsyncIterator[dict[str, Session]]:
    """Two processes, of which the first runs a workflow."""
    await audit.install(database_url)
    async with observer(database_url) as a, observer(database_url) as b:
        for name, session in {"a": a, "b": b}.items():
            introduce(session.connection, name)
            await rows.add_executor(session, f"x{name}")
        await rows.add_workflow(a, "w", executor_id="xa")
        yield {"a": a, "b": b}


@pytest.mark.parametrize(("breach", "acts"), BREACHES.values(), ids=list(BREACHES))
async def test_the_witness_sees(writers: dict[str, Session], database_url: str, breach: str, acts: Acts):
    for writer, statement in acts:
        await writers[writer].rows(statement)
    assert breach in {found.partition(":")[0] for found in await breaches(writers["b"])}


async def test_the_witness_has_nothing_against_what_is_right(writers: dict[str, Session]):
    a, b = writers["a"], writers["b"]
    await a.rows(f"with step as ({STEP.format(seq=1, done=1)}) {EVENT.format(position=1, done=1)}")
    await b.rows(DIES)
    await b.rows(TAKE_OVER.format(more=1))
    await b.rows(f"with step as ({STEP.format(seq=2, done=2)}) {EVENT.format(position=2, done=2)}")
    await b.rows("update workflows set status = 'SUCCEEDED', completed_at = now() where id = 'w'")
    assert await breaches(b) == []


async def breaches(session: Session) -> list[str]:
    found = await session.rows("select breach, workflow_id, detail from audit.breaches")
    return [f"{row.breach}: {row.workflow_id}, {row.detail}" for row in found]
