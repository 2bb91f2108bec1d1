"""What runs thousands of times a second is planned once, perhaps on empty tables, and must do for full ones.

Every statement is prepared while the tables are empty. Then they are filled, and what each statement reads is
counted: nothing may be read from end to end, whatever the planner knew of the tables.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from typing import Any

import psycopg
import pytest

from app.store import db, journal, statements
from tests.support.databases import Databases
from tests.support.rows import batch, entry, event, start, step, wait

WORKFLOWS, BATCH = 200_000, 20
PAGES = 60
"""Pages that a statement may touch for each of its rows; a whole index of the filled tables has over a thousand."""
READING = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan")

FILL = f"""
insert into workflows (id, name, version, status, input_hash, tags, executor_id, generation, start_token,
    created_at, started_at, updated_at, completed_at, wake_at, inbox)
select 'w' || lpad(n::text, 7, '0'), 'shop', '1',
    case when n % 10 = 0 then 'RUNNING' when n % 10 < 4 then 'WAITING' when n % 10 = 4 then 'QUEUED'
         else 'SUCCEEDED' end,
    '', '{{}}', case when n <= 1000 then 'me' else 'e' || n / 1000 end, 1, gen_random_uuid(), now(), now(), now(),
    case when n % 10 > 4 then now() end,
    case when n % 10 between 1 and 3 then now() + n * interval '1 minute' when n % 10 = 4 then now() end, 1
from generate_series(1, {WORKFLOWS}) n;
insert into steps (workflow_id, seq, done, name, kind, digest, output, attempts, started_at, completed_at)
select id, 1, 1, 'pay', 'step', 0, '1', 1, now(), now() from workflows;
insert into events (workflow_id, position, key, value, done, set_at)
select id, p, 'status', '1', 0, now() from workflows, generate_series(1, 2) p;
insert into messages (workflow_id, position, id, topic, payload, payload_hash, event_position, sent_at)
select id, 1, gen_random_uuid(), 'paid', '1', '', 0, now() from workflows;
insert into waits (workflow_id, seq, kind, target, key)
select id, 1, 'get_event', id, 'status' from workflows where status = 'WAITING';
"""
HOT = [f"w{n:07}" for n in range(10, 10 + 10 * BATCH, 10)]
"""Workflows that run."""
PARKED = [f"w{n:07}" for n in range(11, 11 + 10 * BATCH, 10)]


def everything(starts: bool, rarities: bool) -> journal.Batch:
    more: dict[str, Any] = {}
    if starts:
        more["starts"] = [start(f"{id}-child", parent_id=id) for id in HOT]
    if rarities:
        more |= {
            "received": [{"id": id, "position": 1, "seq": 2} for id in HOT],
            "callbacks": [
                {"id": id, "token_hash": f"{n:02x}", "seq": 2, "topic": "t", "expires": 1} for n, id in enumerate(HOT)
            ],
            "waits": [wait(id, 3) for id in HOT],
            "waited": [{"id": id, "seq": 1} for id in HOT],
        }
    entries = [entry(id, fin="SUCCEEDED") for id in HOT]
    return batch(*entries, steps=[step(id, 2) for id in HOT], events=[event(id, 3) for id in HOT], **more)


def flushes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for starts, rarities, skip, again in product([True, False], repeat=4):
        given = everything(starts, rarities)
        params = {
            "executor": "me",
            "ids": given.ids,
            "entries": given.entries,
            "starts": given.starts,
            "steps": given.steps,
            "events": given.events,
        }
        if given.rarities is not None:
            names = ("received", "callbacks", "waits", "waited", "positions", "seqs")
            params |= {name: getattr(given.rarities, name) for name in names}
        name = f"flush{' starts' * starts}{' rarities' * rarities}{' skip' * skip}{' again' * again}"
        yield name, journal._statement(True, starts, rarities, skip, again), params
    given = everything(True, False)
    columns = {name: getattr(given, name) for name in ("ids", "entries", "starts", "steps", "events")}
    params = {"executor": "me", "large": ["1"] * BATCH, **columns}
    yield "flush large", journal._statement(True, True, False, True, False, large=True), params
    births = batch(starts=[start(f"new{n}") for n in range(BATCH)]).starts
    for skip, again in product([True, False], repeat=2):
        text = journal._statement(False, True, False, skip, again)
        yield f"births{' skip' * skip}{' again' * again}", text, {"executor": "me", "starts": births}


SQL = {
    noun: {name: text.replace("{skip}", "") for name, text in statements.load(noun).items()}
    for noun in ("workflows", "messages", "events", "steps", "executors")
}
KEYS = ["status"] * BATCH
LETTERS = json.dumps(
    [
        {
            "n": n,
            "target": id,
            "id": f"00000000-0000-0000-0000-{n:012}",
            "topic": "paid",
            "payload": 1,
            "payload_hash": "",
            "idempotency_key": None,
        }
        for n, id in enumerate(PARKED)
    ]
)

ONCE: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (text, params) for name, text, params in flushes()},
    "glance": (SQL["workflows"]["glance"], {"ids": HOT, "keys": KEYS}),
    "get": (SQL["workflows"]["get"], {"ids": HOT}),
    "owned": (SQL["workflows"]["owned"], {"ids": HOT, "generations": [1] * BATCH, "executor": "me"}),
    "watch": (SQL["workflows"]["watch"], {"ids": HOT}),
    "unread": (SQL["messages"]["unread"], {"ids": HOT, "topics": ["paid"] * BATCH, "after": [0] * BATCH}),
    "lock": (SQL["messages"]["lock"], {"ids": HOT}),
    "by_key": (SQL["messages"]["by_key"], {"ids": HOT, "keys": ["k"] * BATCH}),
    "send": (SQL["messages"]["send"], {"messages": LETTERS, "ids": PARKED}),
}
SHOP = {"executor": "other", "names": ["shop"], "versions": ["1"], "limit": BATCH, "suspect": True}
IN_ORDER: dict[str, tuple[str, dict[str, Any]]] = {"claim": (SQL["workflows"]["claim"], SHOP)}
EACH_TIME: dict[str, tuple[str, dict[str, Any]]] = {
    "adopt": (SQL["workflows"]["adopt"], {"executor": "me", "ids": HOT, "generations": [1] * BATCH}),
    "wake": (SQL["workflows"]["wake"], {"ids": PARKED}),
    "watchers": (SQL["workflows"]["watchers"], {"ended": PARKED, "ids": PARKED, "keys": ["status"]}),
    "abort": (
        SQL["workflows"]["abort"],
        {"ids": HOT, "generations": [None] * BATCH, "status": "CANCELLED", "error": None},
    ),
    "children": (SQL["workflows"]["children"], {"ids": HOT}),
    "lock_tree": (SQL["workflows"]["lock_tree"], {"id": HOT[0]}),
    "next_due": (SQL["workflows"]["next_due"], {"since": datetime.now(UTC)}),
    "overdue": (SQL["workflows"]["overdue"], {}),
    "delete": (SQL["workflows"]["delete"], {"ids": [f"w{n:07}" for n in range(15, 15 + 10 * BATCH, 10)]}),
    "records": (SQL["steps"]["records"], {"ids": HOT}),
    "published": (SQL["steps"]["published"], {"ids": HOT}),
    "waits": (SQL["steps"]["waits"], {"ids": PARKED}),
    "steps": (SQL["steps"]["page"], {"id": HOT[0], "after": 0, "limit": 50}),
    "board": (SQL["events"]["board"], {"id": HOT[0], "after": "", "limit": 50}),
    "log": (SQL["events"]["log"], {"id": HOT[0], "after": 0, "keys": None, "limit": 50}),
    "log of a key": (SQL["events"]["log"], {"id": HOT[0], "after": 0, "keys": ["status"], "limit": 50}),
    "messages": (SQL["messages"]["page"], {"id": HOT[0], "topic": None, "after": 0, "limit": 50}),
}


def connect(url: str, settings: dict[str, str]) -> psycopg.Connection:
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return psycopg.connect(url, autocommit=True, options=options)


class Prepared:
    """Statements prepared on one connection, in PostgreSQL's own words, so that EXPLAIN can run them."""

    def __init__(self, connection: psycopg.Connection, given: dict[str, tuple[str, dict[str, Any]]]) -> None:
        self._connection, self._given = connection, given
        self._names = {name: f"s{n}" for n, name in enumerate(given)}
        self._used = {}
        for name, (text, _) in given.items():
            code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
            self._used[name] = list(dict.fromkeys(re.findall(r"%\((\w+)\)[sb]", code)))
            for n, param in enumerate(self._used[name], 1):
                code = re.sub(rf"%\({param}\)[sb]", f"${n}", code)
            connection.execute(f"prepare {self._names[name]} as {code}".encode())

    def run(self, name: str) -> dict[str, Any]:
        """The plan, carried out and rolled back."""
        params = [_literal(self._given[name][1][param]) for param in self._used[name]]
        call = f"execute {self._names[name]}" + (f"({', '.join(params)})" if params else "")
        explain = "explain (format json, analyze, buffers, timing off)"
        with self._connection.transaction(force_rollback=True):
            row = self._connection.execute(f"{explain} {call}".encode()).fetchone()
        assert row is not None
        plan: dict[str, Any] = row[0][0]["Plan"]
        return plan


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "'{" + ",".join("null" if item is None else str(item) for item in value) + "}'"
    return "'" + str(value).replace("'", "''") + "'"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


TABLES = re.compile("workflows|steps|events|messages|waits|callbacks")


def check(name: str, plan: dict[str, Any], *, once: bool = False) -> None:
    """Nothing is read from end to end, and what is read is in proportion to what was asked."""
    for node in nodes(plan):
        table = node.get("Relation Name", node.get("Index Name", ""))
        rows = node.get("Actual Rows", 0) * node.get("Actual Loops", 1) + node.get("Rows Removed by Filter", 0)
        told = f"{name}: {node['Node Type']} of {table}: {json.dumps(node)[:600]}"
        if once and TABLES.match(table):
            assert node["Node Type"] != "Seq Scan", told
        assert rows <= 100 * BATCH, told
        assert node.get("Rows Removed by Index Recheck", 0) <= 100 * BATCH, told
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert pages <= PAGES * BATCH, f"{name} touches {pages} pages"


@pytest.fixture(scope="module")
def full(databases: Databases, template: str) -> Iterator[tuple[psycopg.Connection, list[Prepared]]]:
    """Statements prepared on tables that were empty and are full by now, and that nobody has analyzed."""
    with (
        databases.clone(template) as url,
        connect(url, db.PLANNED_ONCE) as once,
        connect(url, db.PLANNED_IN_ORDER) as in_order,
        connect(url, db.PLANNED_EACH_TIME) as each_time,
    ):
        for table in ("workflows", "steps", "events", "messages", "waits"):
            each_time.execute(f"alter table {table} set (autovacuum_enabled = off)".encode())
        prepared = [Prepared(once, ONCE), Prepared(in_order, IN_ORDER), Prepared(each_time, EACH_TIME)]
        for name in ONCE:
            prepared[0].run(name)
        each_time.execute(FILL.encode())
        yield each_time, prepared


@pytest.mark.parametrize("name", ONCE)
def test_a_plan_made_on_empty_tables_serves_full_ones(full, name):
    _, (once, _, _) = full
    check(name, once.run(name), once=True)


@pytest.mark.parametrize("name", [*IN_ORDER, *EACH_TIME])
def test_a_plan_made_before_the_tables_were_analyzed_serves_full_ones(full, name):
    _, (_, in_order, each_time) = full
    check(name, (in_order if name in IN_ORDER else each_time).run(name))


def test_plans_made_after_the_tables_were_analyzed_are_no_worse(full):
    connection, (_, in_order, each_time) = full
    connection.execute("analyze")
    for prepared, names in ((in_order, IN_ORDER), (each_time, EACH_TIME)):
        for name in names:
            check(name, prepared.run(name))
