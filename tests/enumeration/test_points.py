"""No statement of the engine goes unnoticed: each stands between two points, and so can be lost, cut off or held up."""

import ast
import asyncio
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

import app.engine
from app.engine import points
from app.engine.views import Mode
from app.model import WorkflowId
from app.store import db, events, executors, journal, messages, notifications, statements, steps, workflows
from app.store.wire import Wire
from app.store.workflows import Filter
from tests.enumeration.programs import LEDGER, define, doors
from tests.support.engine import Engine, TestDatabase

STORE = (events, executors, journal, messages, notifications, steps, workflows)
ENGINE = Path(inspect.getfile(app.engine)).parent
UNHELD = {"notifications.received"}
"""What waits for the others for ever, and sends nothing."""
COMMITS = ("mail", "transaction", "cancel", "resume", "delete", "end")


def asked_of_the_store(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Every call of something in the store that sends a statement."""
    sending = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in STORE
        for name, function in vars(module).items()
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in sending - UNHELD:
            yield node, name


def held_by_points(function: ast.AST) -> Iterator[ast.AST]:
    """What a function carries out between two points: by `around`, under a name or not, or between two `point`s."""
    nodes = list(ast.walk(function))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    given = [call.args[1] for call in calls if ast.unparse(call.func) == "around"]
    names = {ast.unparse(argument) for argument in given}
    yield from given
    yield from (node.value for node in nodes if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in names)
    passed = [(call.lineno, ast.unparse(call.args[0])) for call in calls if ast.unparse(call.func) == "point"]
    for call in calls:
        before = [name.replace("before_", "") for line, name in passed if line < call.lineno and "before_" in name]
        after = [name.replace("after_", "") for line, name in passed if line > call.lineno and "after_" in name]
        if set(before) & set(after) and not ast.unparse(call.func).endswith(("transaction", "point")):
            yield call


@pytest.mark.parametrize("file", sorted(ENGINE.glob("*.py")), ids=lambda file: file.stem)
def test_whatever_the_engine_asks_of_the_store_it_asks_between_two_points(file: Path):
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    held = {node for function in functions for node in held_by_points(function)}
    bare = [f"{name} in line {call.lineno}" for call, name in asked_of_the_store(tree) if call not in held]
    assert not bare, "a test can't strike here"


def test_the_engine_asks_the_store_at_many_places():
    """Else the test above looks at nothing."""
    trees = [ast.parse(file.read_text()) for file in ENGINE.glob("*.py")]
    assert len([call for tree in trees for call in asked_of_the_store(tree)]) > 45


class Seen:
    """Which statements were sent, and between which points."""

    def __init__(self) -> None:
        self.within: dict[str, set[str | None]] = defaultdict(set)
        self.passed: set[str] = set()
        self._open: dict[asyncio.Task[Any] | None, list[str]] = defaultdict(list)
        self._names = {
            plain(text): f"{module.__name__.rpartition('.')[2]}.{name}"
            for module in (events, executors, messages, steps, workflows)
            for name, text in statements.load(module.__name__.rpartition(".")[2]).items()
        }

    async def hook(self, point: str) -> None:
        self.passed.add(point)
        part, _, moment = point.partition(".")
        when, _, what = moment.partition("_")
        under_way = self._open[asyncio.current_task()]
        if part in ("step", "mailbox") or what in ("commit", "wake"):
            return
        if when == "before":
            under_way.append(f"{part}.{what}")
        elif under_way and under_way[-1] == f"{part}.{what}":
            under_way.pop()

    def sent(self, statement: str) -> None:
        pairs = self._open[asyncio.current_task()]
        text = plain(statement)
        self.within[self._names.get(text, text[:60])].add(pairs[-1] if pairs else None)


def plain(statement: str) -> str:
    """Without its comments, and without what is filled in later."""
    lines = [line for line in statement.splitlines() if not line.startswith("--")]
    return " ".join(" ".join(lines).replace("skip locked", "").replace("{skip}", "").split())


class Watched(Engine):
    """Every cursor of its connections says what it sends; a wire has none."""

    def __init__(self, url: str, seen: Seen, **limits: Any) -> None:
        super().__init__(url, **limits)
        self._seen = seen

    def open(self) -> TestDatabase:
        return _Database(self.url, self._seen)


class _Database(TestDatabase):
    def __init__(self, url: str, seen: Seen) -> None:
        super().__init__(url)

        class Cursor(psycopg.AsyncCursor[Any]):
            async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
                seen.sent(query.decode() if isinstance(query, bytes) else str(query))
                return await super().execute(query, *args, **options)

        self._cursors = Cursor
        event.listen(self._engine.sync_engine, "connect", lambda adapted, _: self._watch(adapted.driver_connection))

    def _watch(self, connection: Any) -> None:
        connection.cursor_factory = self._cursors

    async def connect(self, duty: str, **options: Any) -> db.Connection:
        connection = await super().connect(duty, **options)
        self._watch(connection)
        return connection


async def test_every_statement_that_reaches_the_database_was_sent_between_two_points(
    database_url: str, monkeypatch: pytest.MonkeyPatch
):
    seen = Seen()
    send = Wire.rows

    async def rows(wire: Wire, statement: str, params: Mapping[str, Any]) -> Any:
        seen.sent(statement)
        return await send(wire, statement, params)

    monkeypatch.setattr(Wire, "rows", rows)
    engine = Watched(database_url, seen, linger=0.005, cache=0)
    points.install(seen.hook)
    try:
        await engine.start()
        await engine.execute(LEDGER)
        define(engine)
        await much(engine)
        await engine.restart()
        await engine.output("w")
        await engine.stop()
    finally:
        await engine.close()
    print(f"{len(seen.within)} statements, {len(seen.passed)} points")
    # An author's statements, what a transaction begins with, and what the pool asks a server that it meets first.
    foreign = ("insert into ledger", "set local ", "select pg_catalog", "show ", "select current_schema")
    own = {name: pairs for name, pairs in seen.within.items() if not name.startswith(foreign)}
    assert {name for name, pairs in own.items() if None in pairs} == set()
    assert len(own) > 35, sorted(own)
    assert {f"{part}.{when}_commit" for part in COMMITS for when in ("before", "after")} <= seen.passed


async def much(engine: Watched) -> None:
    """Most of what an engine can be asked for, and of what it does by itself."""
    commands, views = engine.runtime.commands, engine.runtime.views
    await engine.begin("journey", id="w")
    await engine.becomes("w", "WAITING")
    await engine.send("w", "answer", 1, key="once")
    await engine.becomes("w-child", "WAITING")
    await engine.send("w-child", "more", 1)
    assert await engine.output("w") == [2, 5, 1, 21]
    doors["p"].set()
    await engine.begin("parent", id="p")
    await engine.becomes("p-child", "WAITING")
    await engine.cancel("p")
    await engine.resume("p")
    await engine.begin("order", id="delayed", delay=3600)
    await engine.resume("delayed")
    await engine.output("delayed")
    await commands.delete(WorkflowId("delayed"))
    await engine.begin("receiver", id="late", timeout=0.01)
    await engine.becomes("late", "TIMED_OUT")
    await engine.runtime.ready()
    await engine.runtime._recovery.bury_absent()
    id = WorkflowId("w")
    await views.board(id, after_key=None, limit=10)
    await views.history(id, after=0, keys=[], limit=10, timeout=0)
    await views.events(id, ["status"], mode=Mode.ALL, after=0, timeout=0)
    await views.steps(id, after=0, limit=10)
    await views.messages(id, topic=None, after=0, limit=10)
    await views.workflows(Filter(), after=None, limit=10, include=frozenset())
