"""The lock order, as the SQL files have it and as PostgreSQL sees it: rows of workflows first, by id."""

import asyncio
import re
import uuid
from itertools import product

import psycopg
import pytest

from app import Context
from app.model import JsonText, Status, WorkflowId
from app.store import db, journal, messages, statements, workflows
from app.store.messages import Draft
from tests.support import rows
from tests.support.engine import Engine
from tests.support.rows import batch, entry, event, start, step
from tests.support.sessions import Session, line, observer, session, sessions, under_way

NOUNS = ("events", "executors", "messages", "steps", "workflows")
STATEMENTS = {
    f"{noun}.{name}": text.replace("{skip}", "") for noun in NOUNS for name, text in statements.load(noun).items()
}
FLUSHES = {
    f"flush of {' and '.join(name for name, on in (('entries', e), ('starts', s), ('rarities', r)) if on)}"
    f"{', skipping' * skip}{', again' * again}": journal._statement(e, s, r, skip, again)
    for e, s, r, skip, again in product([True, False], repeat=5)
    if (e or s) and (e or not r)
}

WRITES = re.compile(r"\b(?:update|delete from) workflows\b")
LOCKED = re.compile(r"order by (?:w\.)?id\s+for (?:no key )?update(?: of w)?\b", re.MULTILINE)
NEVER_WAITS = re.compile(r"for no key update of w skip locked")
ONE_ROW = re.compile(r"where id = %\(id\)s")
LOCKED_BEFORE = {"messages.send": "messages.lock"}
"""Statements that work on rows which an earlier statement of their transaction holds."""


def code(text: str) -> str:
    """Without comments."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def params(text: str) -> dict[str, None]:
    return dict.fromkeys(re.findall(r"%\((\w+)\)s", text))


@pytest.mark.parametrize("name", sorted(name for name, text in STATEMENTS.items() if WRITES.search(code(text))))
def test_whatever_changes_several_workflows_locks_them_in_order_or_never_waits(name):
    text = code(STATEMENTS[LOCKED_BEFORE.get(name, name)])
    first = WRITES.search(code(STATEMENTS[name]))
    ordered = LOCKED.search(text) or NEVER_WAITS.search(text)
    if name in LOCKED_BEFORE:
        assert ordered, f"{LOCKED_BEFORE[name]} locks without an order"
    elif ordered:
        assert first is not None
        assert ordered.start() < first.start(), f"{name} locks after it has written"
    else:
        assert ONE_ROW.search(text), f"{name} changes several workflows in whatever order they are found"


@pytest.mark.parametrize("name", sorted(FLUSHES))
def test_a_flush_locks_in_order_and_starts_in_order(name):
    text = code(FLUSHES[name])
    lock, write = LOCKED.search(text), WRITES.search(text)
    assert (write is None) == (lock is None) == ("entries" not in name)
    if lock is not None and write is not None:
        assert lock.start() < write.start()
        assert bool(NEVER_WAITS.search(text)) == ("skipping" in name)
    if "starts" in name:
        assert re.search(r'order by s\.id collate "C"\s+on conflict', text)


@pytest.mark.parametrize("name", sorted(name for name, text in STATEMENTS.items() if "workflows" in code(text)))
def test_a_lock_on_several_workflows_is_taken_by_id_or_never_waited_for(name):
    text = code(STATEMENTS[name])
    for lock in re.finditer(r"for (?:no key )?update\b[^\n]*", text):
        if "skip locked" not in lock[0] and not ONE_ROW.search(text):
            before = text[: lock.start()].rstrip().splitlines()[-1].strip()
            assert before in ("order by id", "order by w.id"), f"{name} locks after {before!r}"


async def test_every_statement_prepares_on_a_migrated_database(database_url):
    async with observer(database_url) as look:
        for name, text in {**STATEMENTS, **FLUSHES}.items():
            numbered = code(text)
            for n, param in enumerate(params(text), 1):
                numbered = numbered.replace(f"%({param})s", f"${n}")
            try:
                await look.connection.execute(f"prepare it as {numbered}".encode())
            except psycopg.Error as error:
                pytest.fail(f"{name}: {error}")
            await look.connection.execute("deallocate it")


# ---- as PostgreSQL sees it


async def prepare(url, *ids, **columns):
    async with session(url) as setup:
        for id in ids:
            await rows.add_workflow(setup, id, **columns)
        await setup.commit()


async def send(mail: Session, *targets: str) -> None:
    await messages.lock(mail.connection, targets, skip=False)
    drafts = [Draft(WorkflowId(id), str(uuid.uuid4()), "t", JsonText("1"), b"", None) for id in targets]
    await messages.send(mail.connection, drafts)


async def several(act: str, one: Session, ids: list[str]) -> None:
    """Something that locks all of these, named in this order."""
    if act == "send":
        await send(one, *ids)
    elif act == "flush":
        await rows.flush(one, batch(*[entry(id, fin="WAITING") for id in ids]))
    elif act == "wake":
        await workflows.wake(one, ids)
    elif act == "watch":
        await workflows.watch(one, [WorkflowId(id) for id in ids])
    elif act == "abort":
        await workflows.abort_if_active(one.connection, [(id, None) for id in ids], Status.CANCELLED, None)
    elif act == "delete":
        await workflows.delete_if_ended(one.connection, ids)


STATES = {"wake": "WAITING", "delete": "CANCELLED"}


@pytest.mark.parametrize("act", ["send", "flush", "wake", "watch", "abort", "delete"])
async def test_who_wants_several_rows_takes_them_by_id_and_waits_holding_those_before_only(database_url, act):
    """`b` is held: whoever comes has `a`, waits for `b`, and does not have `c`, in whatever order they were named."""
    await prepare(database_url, "c", "a", "b", status=STATES.get(act, "RUNNING"))
    async with sessions(database_url, 2) as (holder, comer), observer(database_url) as look:
        await holder.rows("select 1 from workflows where id = 'b' for update")
        async with under_way(several(act, comer, ["c", "b", "a"])) as coming:
            await holder.blocks()
            free = await look.rows("select id from workflows order by id for update skip locked")
            assert [row.id for row in free] == ["c"]
            # So the holder may have the next one, which would be a deadlock otherwise.
            await holder.rows("select 1 from workflows where id = 'c' for update")
            await holder.rollback()
            await coming
        await comer.commit()


async def test_flushes_of_the_fast_lane_pass_each_other_by(database_url):
    """Two journals that want the same rows in the middle of their commits: neither waits for the other."""
    await prepare(database_url, "a", "b")
    async with sessions(database_url, 2) as (first, second):
        assert ("a", False) in await rows.flush(first, batch(entry("a"), steps=[step("a")]), skip=True)
        assert ("b", False) in await rows.flush(second, batch(entry("b"), steps=[step("b")]), skip=True)
        assert await rows.flush(first, batch(entry("b"), steps=[step("b")]), skip=True) == {}
        assert await rows.flush(second, batch(entry("a"), steps=[step("a")]), skip=True) == {}
        await first.commit()
        await second.commit()


async def test_workflows_that_send_to_each_other_do_not_deadlock(engine: Engine):
    pairs, letters = 6, 10

    @engine.workflow
    async def talk(ctx: Context, other: str) -> int:
        async def speak() -> None:
            for n in range(letters):
                await ctx.send(other, "word", n)

        async def listen() -> int:
            return sum([await ctx.receive("word", timeout=30) for _ in range(letters)])

        await ctx.receive("go", timeout=30)
        _, heard = await asyncio.gather(speak(), listen())
        return heard

    ids = [(f"a{n}", f"z{n}") for n in range(pairs)]
    for one, other in ids:
        await engine.begin(talk, other, id=one)
        await engine.begin(talk, one, id=other)
    await asyncio.gather(*(engine.send(id, "go") for pair in ids for id in pair))
    for id in [id for pair in ids for id in pair]:
        assert await engine.output(id, timeout=30) == sum(range(letters))
    positions = "select workflow_id, array_agg(position order by position) as p from messages group by workflow_id"
    assert {tuple(row["p"]) for row in await engine.rows(positions)} == {tuple(range(1, letters + 2))}
    assert await engine.one("select deadlocks from pg_stat_database where datname = current_database()") == 0


async def test_flushes_sends_and_bulk_changes_in_unlike_order_never_deadlock(database_url):
    """Many at once, in any order, with locks that wait: PostgreSQL counts the deadlocks."""
    ids = [f"w{n:02}" for n in range(12)]
    await prepare(database_url, *ids)
    position = 0

    async def flushes(reverse: bool) -> None:
        nonlocal position
        async with line(database_url) as slow:
            for _ in range(25):
                position += 1
                named = ids[::-1] if reverse else ids
                given = batch(
                    *[entry(id) for id in named],
                    starts=[start(f"{id} {position}") for id in named],
                    events=[event(id, position) for id in named],
                )
                await rows.flush(slow, given)

    async def mails(reverse: bool) -> None:
        async with session(database_url) as mail:
            for _ in range(25):
                await send(mail, *(ids[::-1] if reverse else ids))
                await mail.commit()

    async def watches() -> None:
        async with line(database_url) as watcher:
            for _ in range(25):
                await workflows.watch(watcher, [WorkflowId(id) for id in ids[::-1]])

    await asyncio.gather(flushes(True), flushes(False), mails(True), mails(False), watches())
    async with observer(database_url) as look:
        (row,) = await look.rows(
            "select count(*) as n, min(inbox) as least, max(inbox) as most from workflows where inbox > 0"
        )
        assert (row.n, row.least, row.most) == (len(ids), 50, 50)


def test_a_deadlock_is_something_to_try_again():
    assert db.rolled_back(psycopg.errors.DeadlockDetected())
    assert db.verdict(psycopg.errors.DeadlockDetected()) is db.Verdict.BUSY
