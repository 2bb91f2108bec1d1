"""Messages through the mail itself, when something else has the rows that they need."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app import Context
from app.engine.mail import Sent
from app.errors import CallbackUsed, IdempotencyConflict, WorkflowFinished, WorkflowNotFound
from app.model import WorkflowId
from tests.support import rows
from tests.support.engine import Engine, text
from tests.support.points import Gate, at
from tests.support.sessions import Session, observer, session, under_way
from tests.support.waiting import eventually

W = WorkflowId("w")
SLOW = "milepost slow mail"


@pytest.fixture
async def rival(engine: Engine, database_url: str) -> AsyncIterator[Session]:
    """W runs elsewhere, as far as anybody here knows."""
    async with observer(database_url) as look:
        await rows.add_executor(look, "elsewhere")
        await look.rows("update executors set heartbeat_at = now() + interval '1 day' where id = 'elsewhere'")
        await rows.add_workflow(look, W, executor_id="elsewhere")
    async with session(database_url) as rival:
        yield rival


async def post(engine: Engine, payload: object, key: str | None = None) -> Sent:
    return await engine.runtime.commands.send(W, "paid", text(payload), key)


async def by_hand(rival: Session, payload: object, key: str) -> None:
    """A message that is sent and not committed yet."""
    digest = hashlib.sha256(text(payload).encode()).digest()
    await rival.rows("update workflows set inbox = inbox + 1 where id = 'w'")
    await rival.rows(
        "insert into messages"
        " (workflow_id, position, id, topic, payload, payload_hash, idempotency_key, event_position, sent_at)"
        " values ('w', 1, gen_random_uuid(), 'paid', %(payload)s, %(digest)s, %(key)s, 0, now())",
        {"payload": text(payload), "digest": digest, "key": key},
    )


async def test_a_key_that_was_used_for_another_message_is_a_conflict(engine: Engine, rival: Session):
    """Whoever used it is about to commit: the key is looked for when that is done, and not before."""
    await by_hand(rival, 7, "k")
    async with under_way(post(engine, 7, "k")) as same, under_way(post(engine, 8, "k")) as other:
        await rival.blocks(SLOW)
        await rival.commit()
        assert not (await same).created
        with pytest.raises(IdempotencyConflict):
            await other
    assert not (await post(engine, 7, "k")).created
    assert await engine.one("select count(*) from messages") == 1


async def test_a_message_that_waits_for_the_end_is_not_accepted(engine: Engine, rival: Session):
    await rival.rows("update workflows set status = 'SUCCEEDED', completed_at = now() where id = 'w'")
    async with under_way(post(engine, 7)) as sending:
        await rival.blocks(SLOW)
        await rival.commit()
        with pytest.raises(WorkflowFinished):
            await sending
    assert await engine.one("select count(*) from messages") == 0


async def test_a_message_that_waits_for_a_deletion_is_sent_to_nobody(engine: Engine, rival: Session):
    await rival.rows("delete from workflows where id = 'w'")
    async with under_way(post(engine, 7)) as sending:
        await rival.blocks(SLOW)
        await rival.commit()
        with pytest.raises(WorkflowNotFound):
            await sending
    assert await engine.one("select count(*) from messages") == 0


async def test_a_message_that_waits_for_a_park_wakes_it(engine: Engine, rival: Session):
    await rival.rows("update workflows set status = 'WAITING' where id = 'w'")
    async with under_way(post(engine, 7)) as sending:
        await rival.blocks(SLOW)
        await rival.commit()
        assert (await sending).created
    assert await engine.status(W) == "QUEUED"


async def test_nothing_is_sent_for_a_workflow_that_goes_on_elsewhere(engine: Engine, rival: Session):
    @engine.workflow
    async def tells(ctx: Context) -> None:
        await ctx.send(W, "paid", 7)

    sending = Gate()
    with at(mail__before_lock=sending):
        id = await engine.begin(tells)
        await sending.reached()
        await engine.execute("update workflows set generation = generation + 1 where id = %s", id)
        sending.open()
        await engine.lets_go(id)
    assert await engine.one("select count(*) from messages") == 0


async def test_a_callback_is_completed_once(engine: Engine):
    """By many at once, each with another payload: one of them is heard, and the others are told so."""
    urls: list[str] = []

    @engine.workflow
    async def waits(ctx: Context) -> list[Any]:
        urls.append(await ctx.callback("paid"))
        await ctx.set_event("url", urls[-1])
        return [await ctx.receive("paid"), await ctx.receive("end")]

    id = await engine.begin(waits)
    await eventually(lambda: urls)
    await engine.published(id, "url")
    token = urls[0].rpartition("/")[2]
    complete = engine.runtime.commands.complete_callback
    answers = await asyncio.gather(*(complete(token, text(n)) for n in range(5)), return_exceptions=True)
    assert [answer for answer in answers if answer is None] == [None]
    assert sum(isinstance(answer, CallbackUsed) for answer in answers) == 4
    heard = answers.index(None)
    await complete(token, text(heard))
    await engine.send(id, "end", "end")
    assert await engine.output(id) == [heard, "end"]
