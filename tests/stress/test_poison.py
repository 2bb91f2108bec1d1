"""A value that the database refuses fails whoever sent it, and nobody else.

Nothing that the service accepts is refused by PostgreSQL, as far as anybody knows. So triggers refuse what bears a
mark, with the code that the mark says.
"""

import asyncio
from typing import Any

import pytest

from app import Context
from app.errors import InvalidRequest
from tests.support.engine import Engine
from tests.support.points import Gate, at
from tests.support.sessions import session

CODES = ("22P05", "22021", "23514", "54000", "P0001")
TRAP = """
create function refuse() returns trigger language plpgsql as $$
declare code text := substring(to_jsonb(new)::text from 'poison:([A-Z0-9]{5})');
begin
    if code is not null then
        raise exception 'a test refuses this' using errcode = code;
    end if;
    return new;
end $$
"""
TABLES = ("workflows", "steps", "events", "messages", "waits")


def poison(code: str, size: int = 0) -> list[str]:
    return ["poison:", code + "x" * size]


def made(given: Any) -> Any:
    """A value that bears the mark, from an input that does not."""
    return "".join(given) if isinstance(given, list) else given


@pytest.fixture
async def trapped(engine: Engine) -> Engine:
    await engine.execute(TRAP)
    for table in TABLES:
        await engine.execute(
            f"create trigger refuse before insert or update on {table} for each row execute function refuse()"
        )
    return engine


class Crowd:
    """Workflows that all come to their second step's end at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.go = asyncio.Event()

        async def first() -> int:
            return 1

        async def wait(value: Any) -> Any:
            await self.go.wait()
            return made(value)

        @engine.workflow
        async def member(ctx: Context, values: list[Any]) -> Any:
            step, event, output = values
            await ctx.step(first)
            await ctx.set_event("first", 1)
            await ctx.step(wait, step)
            await ctx.set_event("second", 2)
            await ctx.set_event("third", made(event))
            return made(output)

        self.member = member

    async def begin(self, *values: list[Any]) -> list[str]:
        """One for each list of what its step, its event and itself are to return; all are in their second step."""
        ids = [await self.engine.begin(self.member, given) for given in values]
        for id in ids:
            await self.engine.published(id, "first")
        return ids

    async def all_at_once(self) -> None:
        """Their records collect behind a flush, and go out together."""
        gate = Gate()
        with at(journal__before_flush=gate):
            self.go.set()
            await gate.reached()
            gate.open()

    async def assert_failed(self, id: str) -> None:
        """With the reason, at the last barrier that it had come to."""
        error = await self.engine.error(id, timeout=20)
        assert "a test refuses this" in error["message"]
        assert [step["seq"] for step in await self.engine.steps(id)] == [1]
        assert await self.engine.events(id) == [("first", 1)]


GOOD = [1, 1, "good"]


@pytest.mark.parametrize("where", [0, 1, 2], ids=["step", "event", "output"])
async def test_of_a_hundred_in_one_flush_the_guilty_ones_fail_alone(trapped: Engine, where: int):
    crowd = Crowd(trapped)
    guilty = [[*GOOD[:where], poison(code), *GOOD[where + 1 :]] for code in CODES]
    values = [guilty[n // 20] if n % 20 == 7 else GOOD for n in range(100)]
    ids = await crowd.begin(*values)
    await crowd.all_at_once()
    for id, given in zip(ids, values, strict=True):
        if given is GOOD:
            assert await trapped.output(id, timeout=20) == "good"
        else:
            await crowd.assert_failed(id)


async def test_large_ones_fail_alone_too(trapped: Engine):
    crowd = Crowd(trapped)
    values = [[1, poison(CODES[n // 3], 50_000) if n % 3 == 1 else "x" * 50_000, "good"] for n in range(15)]
    ids = await crowd.begin(*values)
    await crowd.all_at_once()
    for n, id in enumerate(ids):
        if n % 3 == 1:
            await crowd.assert_failed(id)
        else:
            assert await trapped.output(id, timeout=20) == "good"


async def test_those_whose_rows_were_held_fail_alone_too(trapped: Engine, database_url: str):
    crowd = Crowd(trapped)
    values = [[1, poison(CODES[n // 3]) if n % 3 == 1 else 1, "good"] for n in range(15)]
    ids = await crowd.begin(*values)
    async with session(database_url) as rival:
        await rival.rows("select from workflows where id = any (%(ids)s) for update", {"ids": ids})
        crowd.go.set()
        await rival.blocks("milepost journal slow")
    for n, id in enumerate(ids):
        if n % 3 == 1:
            await crowd.assert_failed(id)
        else:
            assert await trapped.output(id, timeout=20) == "good"


async def test_a_transaction_whose_record_is_refused_fails_and_keeps_none_of_its_writes(trapped: Engine):
    await trapped.execute("create table ledger (workflow text)")

    async def enter(connection: Any, id: str, word: list[str]) -> str:
        await connection.execute("insert into ledger values (%s)", (id,))
        return str(made(word))

    @trapped.workflow
    async def program(ctx: Context, word: list[str]) -> str:
        return await ctx.transaction(enter, ctx.workflow_id, word)

    # Their inputs bear no mark.
    ids = [await trapped.begin(program, poison(code) if n % 2 else ["good", ""]) for code in CODES for n in (0, 1)]
    for n, id in enumerate(ids):
        if n % 2:
            assert "a test refuses this" in (await trapped.error(id))["message"]
        else:
            assert await trapped.output(id) == "good"
    assert sorted(row["workflow"] for row in await trapped.rows("select * from ledger")) == sorted(ids[::2])


async def test_of_many_messages_at_once_the_guilty_ones_are_refused_alone(trapped: Engine):
    @trapped.workflow
    async def reader(ctx: Context) -> list[Any]:
        return [await ctx.receive("word") for _ in range(46)]

    id = await trapped.begin(reader)
    await trapped.becomes(id, "WAITING")
    words = [made(poison(CODES[n // 10])) if n % 10 == 3 else n for n in range(50)]
    gate = Gate()
    with at(mail__before_commit=gate):
        first = trapped.beside(trapped.send(id, "word", "ahead"))
        await gate.reached()
        sent = [trapped.beside(trapped.send(id, "word", word)) for word in words]
        await asyncio.sleep(0)
        gate.open()
        outcomes = await asyncio.gather(first, *sent, return_exceptions=True)
    refused = [word for word, outcome in zip(["ahead", *words], outcomes, strict=True) if outcome is not None]
    assert refused == [word for word in words if isinstance(word, str)]
    assert {type(outcome) for outcome in outcomes if outcome is not None} == {InvalidRequest}
    # Those that are sent at the same time have no order.
    ahead, *others = await trapped.output(id)
    assert ahead == "ahead"
    assert sorted(others) == [word for word in words if not isinstance(word, str)]


async def test_a_workflow_that_sends_what_is_refused_fails_alone(trapped: Engine):
    go = asyncio.Event()

    async def wait() -> None:
        await go.wait()

    @trapped.workflow
    async def reader(ctx: Context) -> None:
        await ctx.receive("never")

    @trapped.workflow
    async def writer(ctx: Context, word: list[str]) -> str:
        await ctx.step(wait)
        await ctx.send("reader", "word", made(word))
        return "sent"

    await trapped.begin(reader, id="reader")
    # Their inputs bear no mark.
    ids = [await trapped.begin(writer, poison(CODES[n // 5]) if n % 5 == 2 else ["good", ""]) for n in range(25)]
    go.set()
    for n, id in enumerate(ids):
        if n % 5 == 2:
            assert "does not take" in (await trapped.error(id))["message"]
        else:
            assert await trapped.output(id) == "sent"
    assert await trapped.one("select count(*) from messages") == 20


async def test_of_many_starts_at_once_the_guilty_ones_are_refused_alone(trapped: Engine):
    @trapped.workflow
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    inputs = [made(poison(CODES[n // 10])) if n % 10 == 3 else n for n in range(50)]
    gate = Gate()
    with at(journal__before_flush=gate):
        starting = [trapped.beside(trapped.begin(echo, given)) for given in inputs]
        await gate.reached()
        gate.open()
        outcomes = await asyncio.gather(*starting, return_exceptions=True)
    for given, outcome in zip(inputs, outcomes, strict=True):
        if isinstance(given, str):
            assert isinstance(outcome, InvalidRequest)
        else:
            assert isinstance(outcome, str)
            assert await trapped.output(outcome) == given


async def test_a_child_that_is_refused_fails_its_parent_and_no_other(trapped: Engine):
    @trapped.workflow
    async def child(ctx: Context, value: Any) -> Any:
        return value

    @trapped.workflow
    async def parent(ctx: Context, word: list[str]) -> Any:
        return await (await ctx.start(child, made(word))).result()

    ids = [await trapped.begin(parent, poison(CODES[n // 5]) if n % 5 == 2 else ["good", ""]) for n in range(25)]
    for n, id in enumerate(ids):
        if n % 5 == 2:
            assert "a test refuses this" in (await trapped.error(id))["message"]
        else:
            assert await trapped.output(id) == "good"
