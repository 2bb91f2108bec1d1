"""What happens once: transactions, sends, child starts and callbacks."""

import asyncio
from typing import Any

import psycopg
import pytest

from app import Context, Retry, StepFailed, WorkflowFinished, WorkflowIdConflict, WorkflowNotFound, step
from app.engine import points
from app.errors import CallbackNotFound, CallbackUsed
from tests.support import faults
from tests.support.engine import Engine, insist, text
from tests.support.faults import Fault, Moment, kills, lost
from tests.support.waiting import eventually

LEDGER = "create table ledger (workflow text, amount int)"


async def entries(engine: Engine) -> int:
    return int(await engine.one("select count(*) from ledger"))


async def enter(connection: Any, amount: int) -> int:
    await connection.execute("insert into ledger values ('w', %s)", (amount,))
    return amount


# ---- transactions


async def test_a_transaction_whose_answer_was_lost_is_not_done_again(engine: Engine):
    await engine.execute(LEDGER)

    @engine.workflow
    async def program(ctx: Context) -> int:
        return await ctx.transaction(enter, 5)

    points.install(Fault(lost, Moment("transaction.after_commit", 1)))
    assert await engine.run(program) == 5
    assert await entries(engine) == 1


async def test_a_transaction_in_conflict_with_another_is_done_again(engine: Engine):
    await engine.execute(LEDGER)

    async def conflicts(connection: Any) -> int:
        engine.ran.append("try")
        await connection.execute("insert into ledger values ('w', 1)")
        if len(engine.ran) < 3:
            raise psycopg.errors.SerializationFailure("could not serialize access")
        return len(engine.ran)

    @engine.workflow
    async def program(ctx: Context) -> int:
        return await ctx.transaction(conflicts)

    assert await engine.run(program) == 3
    assert await entries(engine) == 1


async def test_a_transaction_on_a_server_that_takes_no_writes_for_now_is_done_again(engine: Engine):
    await engine.execute(LEDGER)

    async def writes(connection: Any) -> int:
        engine.ran.append("try")
        if len(engine.ran) < 3:
            await connection.execute("set transaction read only")
        await enter(connection, len(engine.ran))
        return len(engine.ran)

    @engine.workflow
    async def program(ctx: Context) -> int:
        return await ctx.transaction(writes)

    assert await engine.run(program) == 3
    assert await entries(engine) == 1


@pytest.mark.parametrize("error", [psycopg.errors.DiskFull, psycopg.errors.TooManyConnections, psycopg.errors.IoError])
async def test_a_transaction_on_a_server_in_need_is_done_again(engine: Engine, error: type[psycopg.Error]):
    async def needy(connection: Any) -> int:
        engine.ran.append("try")
        if len(engine.ran) < 3:
            raise error("not now")
        return len(engine.ran)

    @engine.workflow
    async def program(ctx: Context) -> int:
        return await ctx.transaction(needy)

    assert await engine.run(program) == 3


async def test_a_transaction_that_fails_keeps_none_of_its_writes(engine: Engine):
    await engine.execute(LEDGER)

    @step(retry=Retry(attempts=2, delay=0))
    async def overdraws(connection: Any) -> None:
        engine.ran.append("try")
        await enter(connection, -1)
        raise LookupError("no funds")

    @engine.workflow
    async def program(ctx: Context) -> list[Any]:
        try:
            await ctx.transaction(overdraws)
        except StepFailed as failed:
            return [failed.type, failed.attempts, await ctx.transaction(enter, 7)]
        return []

    assert await engine.run(program) == ["LookupError", 2, 7]
    assert await engine.one("select sum(amount) from ledger") == 7


async def test_a_transaction_of_a_workflow_that_was_cancelled_meanwhile_is_undone(engine: Engine):
    await engine.execute(LEDGER)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def waits(connection: Any) -> None:
        await enter(connection, 1)
        held.set()
        await go_on.wait()

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.transaction(waits)

    id = await engine.begin(program)
    await eventually(held.is_set)
    await engine.execute("update workflows set status = 'CANCELLED', completed_at = now() where id = %s", id)
    go_on.set()
    await eventually(lambda: not engine.holds(id))
    assert (await entries(engine), await engine.steps(id)) == (0, [])


async def test_durable_calls_inside_a_transaction_are_refused(engine: Engine):
    await engine.execute(LEDGER)

    async def sets(connection: Any, ctx: Context) -> None:
        await enter(connection, 1)
        await ctx.set_event("key", 1)

    @engine.workflow
    async def program(ctx: Context) -> None:
        await ctx.transaction(sets, ctx)

    assert (await engine.error(await engine.begin(program)))["type"] == "AuthoringError"
    assert await entries(engine) == 0


async def test_transactions_and_steps_side_by_side_come_out_of_a_crash_as_they_went_in(engine: Engine):
    await engine.execute(LEDGER)

    async def act(number: int) -> int:
        return number

    @engine.workflow
    async def program(ctx: Context) -> list[int]:
        async def pays(number: int) -> int:
            return await ctx.transaction(enter, number) + await ctx.step(act, number)

        async def acts(number: int) -> int:
            done = await ctx.step(act, number)
            await ctx.set_event("acted", number)
            return done + await ctx.step(act, number)

        return list(await asyncio.gather(*(pays(n) if n % 2 else acts(n) for n in range(6))))

    async def client(id: str) -> None:
        await insist(lambda: engine.begin(program, id=id))
        assert await engine.output(id) == [2 * number for number in range(6)]

    for moment in await faults.rehearse(client, "once"):
        await engine.execute("delete from ledger")
        await faults.perform(engine, client, str(moment), Fault(kills(engine), moment))
        assert await entries(engine) == 3
        log = await engine.log(str(moment))
        assert sorted(row["value"] for row in log) == [0, 2, 4]
        assert [row["position"] for row in log] == [1, 2, 3]


# ---- messages and children


async def test_a_message_is_sent_once_though_its_answer_is_lost_and_its_sender_dies(engine: Engine):
    @engine.workflow
    async def hears(ctx: Context) -> list[Any]:
        return [await ctx.receive("news"), await ctx.receive("end")]

    @engine.workflow
    async def tells(ctx: Context, target: str) -> None:
        await ctx.send(target, "news", {"n": 1})

    target = await engine.begin(hears)
    points.install(Fault(kills(engine), Moment("mail.after_commit", 1)))
    id = await engine.begin(tells, target)
    await eventually(engine.killed.is_set)
    points.install(None)
    await engine.crash()
    points.install(Fault(lost, Moment("mail.after_commit", 1)))
    await engine.output(id)
    await engine.send(target, "end")
    assert await engine.output(target) == [{"n": 1}, None]
    assert await engine.one("select count(*) from messages where workflow_id = %s and topic = 'news'", target) == 1


async def test_sending_to_nobody_or_to_what_has_ended_says_so_live_and_in_replay(engine: Engine):
    told: list[list[str]] = []

    @engine.workflow
    async def ends(ctx: Context) -> None: ...

    @engine.workflow
    async def tells(ctx: Context) -> None:
        kinds = []
        for target in ("nobody", "ended"):
            try:
                await ctx.send(target, "news")
            except (WorkflowNotFound, WorkflowFinished) as error:
                kinds.append(type(error).__name__)
        told.append(kinds)
        await ctx.receive("go")

    await engine.run(ends, id="ended")
    id = await engine.begin(tells)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "go")
    await engine.output(id)
    assert told == [["WorkflowNotFound", "WorkflowFinished"]] * 2


async def test_a_child_whose_id_belongs_to_a_stranger_is_not_adopted(engine: Engine):
    @engine.workflow
    async def child(ctx: Context, number: int) -> int:
        return number

    @engine.workflow
    async def parent(ctx: Context, id: str) -> str:
        try:
            await ctx.start(child, 1, id=id)
            again = await ctx.start(child, 1, id=id)
        except WorkflowIdConflict:
            return "taken"
        return again.id

    await engine.run(child, 1, id="stranger")
    assert await engine.run(parent, "stranger") == "taken"
    assert await engine.run(parent, "own") == "own"


async def test_a_workflow_may_send_to_itself(engine: Engine):
    @engine.workflow
    async def program(ctx: Context) -> list[str]:
        await ctx.send(ctx.workflow_id, "self", "one")
        await ctx.send(ctx.workflow_id, "self", "two")
        return [await ctx.receive("self"), await ctx.receive("self")]

    assert await engine.run(program) == ["one", "two"]


# ---- callbacks


async def test_a_callback_has_the_same_address_after_a_crash_and_its_token_is_in_no_record(engine: Engine):
    seen: list[str] = []

    @engine.workflow
    async def program(ctx: Context) -> Any:
        seen.append(await ctx.callback("paid"))
        return await ctx.receive("paid")

    id = await engine.begin(program)
    await engine.becomes(id, "WAITING")
    await engine.crash()
    await engine.send(id, "other")
    await eventually(lambda: len(seen) == 2)
    assert seen[0] == seen[1]
    base, _, token = seen[0].rpartition("/")
    assert base == "http://milepost.test/callbacks"
    for table in ("workflows", "steps", "events", "messages", "waits", "callbacks"):
        assert not await engine.rows(f"select from {table} t where t::text like %s", f"%{token}%")
    await engine.runtime.commands.complete_callback(token, text({"ok": True}))
    assert await engine.output(id) == {"ok": True}
    await engine.runtime.commands.complete_callback(token, text({"ok": True}))
    with pytest.raises(CallbackUsed):
        await engine.runtime.commands.complete_callback(token, text({"ok": False}))
    with pytest.raises(CallbackNotFound):
        await engine.runtime.commands.complete_callback("guessed", text(None))


async def test_callbacks_of_one_workflow_are_told_apart(engine: Engine):
    seen: list[str] = []

    @engine.workflow
    async def program(ctx: Context) -> list[Any]:
        seen.extend(await asyncio.gather(ctx.callback("a"), ctx.callback("b")))
        return list(await asyncio.gather(ctx.receive("a"), ctx.receive("b")))

    id = await engine.begin(program)
    await eventually(lambda: len(seen) == 2)
    await engine.becomes(id, "WAITING")
    for url, payload in zip(seen, ("for a", "for b"), strict=True):
        await engine.runtime.commands.complete_callback(url.rpartition("/")[2], text(payload))
    assert await engine.output(id) == ["for a", "for b"]


async def test_a_callback_that_has_expired_is_unknown(engine: Engine):
    seen: list[str] = []

    @engine.workflow
    async def program(ctx: Context) -> None:
        seen.append(await ctx.callback("paid", expires=0.01))
        await ctx.receive("paid")

    id = await engine.begin(program)
    await engine.becomes(id, "WAITING")
    with pytest.raises(CallbackNotFound):
        await engine.runtime.commands.complete_callback(seen[0].rpartition("/")[2], text(None))
