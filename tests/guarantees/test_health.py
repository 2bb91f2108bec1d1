"""What a process says of itself is true: it is ready if it can write, on the schema that it needs or a newer one."""

import asyncio

import pytest

from app import Context
from app.engine import recovery
from app.errors import DatabaseUnavailable
from tests.support.beats import rests
from tests.support.engine import Engine, running
from tests.support.points import at
from tests.support.waiting import eventually

FULL = """
create function no_space() returns trigger language plpgsql as
$$ begin raise exception 'could not extend file: no space left on device' using errcode = '53100'; end $$;
create trigger no_space before insert or update on executors for each statement execute function no_space()
"""
NEWER = (
    "alter table workflows add column colour text",
    "alter table steps add column colour text not null default 'blue'",
    "create table colours (name text primary key)",
    "create index on workflows (colour)",
    "update alembic_version set version_num = '9999'",
)


async def test_who_can_not_write_is_not_ready(engine: Engine):
    """Its database reads as ever, and its disk is full."""
    await engine.runtime.ready()
    await engine.execute(FULL)
    with pytest.raises(DatabaseUnavailable):
        await engine.runtime.ready()
    await engine.execute("drop trigger no_space on executors")
    await engine.runtime.ready()


async def test_who_finds_an_older_schema_is_not_ready(engine: Engine):
    (revision,) = await engine.rows("select version_num from alembic_version")
    await engine.execute("update alembic_version set version_num = '0000'")
    with pytest.raises(DatabaseUnavailable):
        await engine.runtime.ready()
    await engine.execute("update alembic_version set version_num = %s", revision["version_num"])
    await engine.runtime.ready()


async def test_a_schema_beyond_ours_serves_us(engine: Engine):
    """As while replicas are replaced one by one: the first new one has brought the schema up."""
    go = asyncio.Event()

    async def wait() -> int:
        await go.wait()
        return 1

    @engine.workflow
    async def work(ctx: Context) -> int:
        await ctx.set_event("k", 1)
        return await ctx.step(wait)

    id = await engine.begin(work)
    for statement in NEWER:
        await engine.execute(statement)
    await engine.runtime.ready()
    go.set()
    assert await engine.output(id) == 1
    assert await engine.run(work) == 1
    await engine.crash()
    assert await engine.run(work) == 1


async def test_old_and_new_code_side_by_side_take_each_what_they_have(database_url, monkeypatch):
    """A workflow of the old code is not run by a process that has the new one alone, not even when its own is dead."""
    monkeypatch.setattr(recovery, "PATIENCE", 0.1)
    async with running(database_url, beat=3600.0) as old, running(database_url) as new:
        go = asyncio.Event()

        def register(engine: Engine, version: str):
            async def wait() -> str:
                engine.ran.append(version)
                await go.wait()
                return version

            @engine.workflow(name="work", version=version)
            async def work(ctx: Context) -> str:
                return await ctx.step(wait)

        register(old, "1")
        register(new, "2")
        await old.begin("work", id="begun by the old")
        await new.begin("work", id="begun by the new")
        await old.noted("1")
        await new.noted("2")
        await rests(old)
        await old.execute("update executors set alive = false where id = %s", old.executor)
        looks = 0

        async def look() -> None:
            nonlocal looks
            looks += 1

        with at(recovery__after_take_over=look):
            await eventually(lambda: looks >= 2, message="nobody looks for the lost")
        assert await new.one("select generation from workflows where id = 'begun by the old'") == 1
        old.runtime._pulse.poke()
        go.set()
        assert await old.output("begun by the old", 20) == "1"
        assert await new.output("begun by the new") == "2"
        assert (set(old.ran), new.ran) == ({"1"}, ["2"])
