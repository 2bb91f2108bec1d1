"""What a workflow waits for comes at the worst moment, and it is never left waiting."""

import asyncio

import pytest

from app import Context, EventNeverSet, TimedOut, WorkflowNotFound
from app.engine.run import Phase
from app.model import StepKind, WorkflowId
from tests.support import rows
from tests.support.engine import Engine, running
from tests.support.points import Gate, at
from tests.support.sessions import observer, session
from tests.support.waiting import eventually

W, V = "w", "v"
FOREVER = "now() + interval '1 day'"


def park_of(engine: Engine, gate: Gate, *, carried_out: bool):
    """Holds the flush that parks W: one that could, for of all the topics that it receives on it has read the last.
    `carried_out`: the flush is held after it, so W is parked by then, and not by a flush that is still to come."""

    async def hold() -> None:
        run = engine.runtime._executor._runs.get(WorkflowId(W))
        if run is not None and run._phase is Phase.PARKING:
            topics = [call.name for call in run._calls.values() if call.kind is StepKind.RECEIVE]
            if not all(run._inboxes.get(topic, -1) >= 0 for topic in topics):
                return
            if not carried_out or await engine.status(W) == "WAITING":
                await gate()

    return hold


def buyer(engine: Engine):
    @engine.workflow
    async def order(ctx: Context) -> int:
        return await ctx.receive("paid", timeout=3600)

    return order


def onlooker(engine: Engine):
    @engine.workflow
    async def look(ctx: Context, key: str) -> str:
        try:
            return str(await ctx.get_event(V, key, timeout=3600))
        except (EventNeverSet, WorkflowNotFound) as error:
            return type(error).__name__

    return look


def publisher(engine: Engine):
    @engine.workflow(name="publish")
    async def publish(ctx: Context) -> None:
        await ctx.receive("go", timeout=3600)
        await ctx.set_event("url", "there")
        await ctx.receive("end", timeout=3600)

    return publish


async def elsewhere(url: str) -> None:
    """V runs in another process, which is alive for ever as far as anybody here knows."""
    async with observer(url) as other:
        await rows.add_executor(other, "elsewhere")
        await other.rows(f"update executors set heartbeat_at = {FOREVER} where id = 'elsewhere'")
        await rows.add_workflow(other, V, executor_id="elsewhere")


SET = (
    "insert into events (workflow_id, position, key, value, done, set_at) values ('v', 1, 'url', '\"there\"', 0, now())"
)
END = "update workflows set status = 'SUCCEEDED', completed_at = now() where id = 'v'"
GONE = "delete from workflows where id = 'v'"


async def test_a_message_that_comes_while_its_workflow_parks_is_received(engine: Engine):
    order, park = buyer(engine), Gate()
    with at(journal__before_flush=park_of(engine, park, carried_out=False)):
        await engine.begin(order, id=W)
        await park.reached()
        await engine.send(W, "paid", 7)
        park.open()
        assert await engine.output(W) == 7
    assert await engine.one("select generation from workflows where id = %s", W) == 1, "it need not have parked at all"


async def test_a_message_that_comes_between_the_park_and_its_answer_is_received(engine: Engine):
    order, park = buyer(engine), Gate()
    with at(journal__after_flush=park_of(engine, park, carried_out=True)):
        await engine.begin(order, id=W)
        await park.reached()
        await engine.becomes(W, "WAITING")
        await engine.send(W, "paid", 7)
        assert await engine.status(W) != "WAITING"
        park.open()
        assert await engine.output(W) == 7


async def test_a_message_that_was_read_while_its_workflow_parked_is_received_in_place(engine: Engine):
    """It was found, and nobody could be given it any more: the next receive of the same code has it."""
    order, park, claim = buyer(engine), Gate(), Gate()
    with at(journal__after_flush=park_of(engine, park, carried_out=True), executor__before_claim=claim):
        await engine.begin(order, id=W)
        await park.reached()
        executor = engine.runtime._executor
        await engine.send(W, "paid", 7)
        await eventually(lambda: executor._runs[WorkflowId(W)]._outcomes, message="the message is not read")
        park.open()
        await eventually(lambda: WorkflowId(W) in executor._parked, message="it is not parked")
        claim.open()
        assert await engine.output(W) == 7


async def test_an_event_in_the_same_flush_as_the_park_that_waits_for_it_wakes_it(engine: Engine):
    look, publish = onlooker(engine), publisher(engine)
    await engine.begin(publish, id=V)
    await engine.becomes(V, "WAITING")
    gate = Gate()
    await engine.begin(look, "url", id=W)
    with at(journal__before_flush=gate):
        await gate.reached()  # it is W's park, or a flush before it
        await engine.send(V, "go")
        gate.open()
        assert await engine.output(W) == "there"


@pytest.mark.parametrize("happens", [SET, END, GONE])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_happens_elsewhere_around_a_park_is_seen_by_the_second_look(database_url, happens, moment):
    """Whoever does it there was not told in time, or looked for whom to wake too early."""
    await elsewhere(database_url)
    # It beats so seldom that it does not look again by chance.
    async with running(database_url, beat=3600.0) as engine:
        look, park = onlooker(engine), Gate()
        with at(**{f"journal__{moment}_flush": park_of(engine, park, carried_out=moment == "after")}):
            await engine.begin(look, "url", id=W)
            await park.reached()
            assert await engine.one("select watched from workflows where id = %s", V)
            await engine.execute(happens)
            park.open()
            assert await engine.output(W) == {SET: "there", END: "EventNeverSet", GONE: "WorkflowNotFound"}[happens]


async def test_two_processes_wake_each_other(database_url):
    async with running(database_url) as here, running(database_url) as there:
        look, publish = onlooker(here), publisher(there)
        await there.begin(publish, id=V)
        await here.begin(look, "url", id=W)
        await here.begin(look, "never", id="n")
        await here.becomes(W, "WAITING")
        await there.becomes(V, "WAITING")
        await here.send(V, "go")
        assert await here.output(W) == "there"
        await here.becomes("n", "WAITING")
        await there.send(V, "end")
        assert await here.output("n") == "EventNeverSet"


@pytest.mark.parametrize("act", ["cancel", "delete"])
async def test_whoever_waits_for_what_is_ended_from_outside_goes_on(engine: Engine, act):
    look, publish = onlooker(engine), publisher(engine)
    await engine.begin(publish, id=V)
    await engine.begin(look, "never", id=W)
    await engine.becomes(W, "WAITING")
    await engine.becomes(V, "WAITING")
    await engine.cancel(V)
    assert await engine.output(W) == "EventNeverSet"
    if act == "delete":
        await engine.runtime.commands.delete(WorkflowId(V))
        assert await engine.run(look, "never") == "WorkflowNotFound"


async def test_a_wake_whose_connection_was_cut_is_made_again(engine: Engine, database_url):
    """Nobody would ask again: neither a beat nor a poll looks at whoever waits for another workflow."""
    look, publish = onlooker(engine), publisher(engine)
    await engine.begin(publish, id=V)
    await engine.begin(look, "url", id=W)
    await engine.becomes(W, "WAITING")
    await engine.becomes(V, "WAITING")
    async with session(database_url) as rival:
        await rival.rows("select 1 from workflows where id = 'w' for no key update")
        await engine.send(V, "go")
        waking = await rival.blocks("milepost wake")
        await engine.rows("select pg_terminate_backend(%s)", waking)
    assert await engine.output(W) == "there"


async def test_a_second_look_whose_connection_was_cut_is_made_again(engine: Engine, database_url):
    await elsewhere(database_url)
    look, park = onlooker(engine), Gate()
    async with session(database_url) as rival:
        with at(journal__after_flush=park_of(engine, park, carried_out=True)):
            await engine.begin(look, "url", id=W)
            await park.reached()
            await engine.execute(SET)
            await rival.rows("lock table events")
            park.open()
            looking = await rival.blocks("milepost lookup")
            await engine.rows("select pg_terminate_backend(%s)", looking)
    assert await engine.output(W) == "there"


async def test_a_crash_between_a_park_and_its_second_look_leaves_nobody_waiting(engine: Engine, database_url):
    """All that the dead executor had was parked: there is nothing to take over, and somebody to wake all the same."""
    await elsewhere(database_url)
    look, park = onlooker(engine), Gate()
    with at(journal__after_flush=park_of(engine, park, carried_out=True)):
        await engine.begin(look, "url", id=W)
        await park.reached()
        await engine.becomes(W, "WAITING")
        await engine.execute(SET)
        await engine.crash()
    assert await engine.output(W) == "there"


async def woken(engine: Engine, id: str, times: int) -> None:
    async def often() -> bool:
        return bool(await engine.one("select generation > %s from workflows where id = %s", times, id))

    await eventually(often, message=f"{id} was not woken {times} times")


async def test_each_wait_keeps_its_own_deadline_over_wakes_by_others(forgetful: Engine):
    @forgetful.workflow
    async def patient(ctx: Context) -> None:
        async def wait(topic: str, hours: int) -> None:
            await ctx.receive(topic, timeout=hours * 3600)

        await asyncio.gather(wait("a", 1), wait("b", 2), ctx.sleep(3 * 3600), ctx.receive("c"))

    deadlines = "select seq, deadline from waits where workflow_id = %s order by seq"
    await forgetful.begin(patient, id=W)
    await forgetful.forgotten(W)
    before = await forgetful.rows(deadlines, W)
    assert [row["deadline"] is None for row in before] == [False, False, False, True]
    for nth, topic in enumerate(("nobody's", "b"), 1):
        await forgetful.send(W, topic)
        await woken(forgetful, W, nth)
        await forgetful.forgotten(W)
        kept = [row for row in before if topic == "nobody's" or row["seq"] != 2]
        assert await forgetful.rows(deadlines, W) == kept
        assert await forgetful.one("select wake_at from workflows where id = %s", W) == before[0]["deadline"]


async def test_a_wait_whose_time_is_up_leaves_the_others_their_time(forgetful: Engine):
    @forgetful.workflow
    async def patient(ctx: Context) -> str:
        try:
            await asyncio.gather(ctx.receive("never", timeout=0.3), ctx.sleep(3600))
        except TimedOut:
            return "timed out"
        return "not reached"

    assert await forgetful.run(patient) == "timed out"


async def test_what_is_parked_for_a_locked_workflow_does_not_keep_others_from_reading(engine: Engine, database_url):
    """To mark a workflow as watched waits for its row; reads of other workflows must not wait with it."""
    await elsewhere(database_url)
    look = onlooker(engine)

    @engine.workflow
    async def echo(ctx: Context, n: int) -> int:
        return n

    async with session(database_url) as holder:
        await holder.rows("update workflows set tags = '{}' where id = 'v'")
        await engine.begin(look, "url", id=W)
        await holder.blocks()
        async with asyncio.timeout(3):
            assert await engine.run(echo, 1) == 1
        await holder.rollback()
    await engine.becomes(W, "WAITING")
