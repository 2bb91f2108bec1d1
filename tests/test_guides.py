"""The code blocks of the guides are run, one after the other, as their readers would."""

import inspect
import re
import types
from pathlib import Path

import pytest

from app import Registry, testing
from app.authoring import definitions

GUIDE = Path(__file__).parents[1] / "docs" / "authoring.md"


@pytest.fixture
def guide(monkeypatch):
    monkeypatch.setattr(definitions, "_default", Registry())
    module = types.ModuleType("guide")
    for block in re.finditer(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE):
        line = GUIDE.read_text()[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(GUIDE), "exec", dont_inherit=True), module.__dict__)
    return module


async def test_the_tests_of_the_guide_pass(guide):
    tests = [function for name, function in vars(guide).items() if name.startswith("test_")]

    assert tests
    for test in tests:
        await test()


async def test_the_workflows_of_the_guide_do_what_it_says(guide, capsys):
    run = testing.run

    assert (await run(guide.add_up, [1, 2, 3])).output == 6
    assert (await run(guide.charge_one_of, ["stolen", "mine"])).output == "mine"
    assert (await run(guide.remind, "a@shop.test")).elapsed == 3 * 86_400
    assert (await run(guide.import_all, ["a", "b"])).events == [
        ("row", "A"),
        ("progress", 50),
        ("row", "B"),
        ("progress", 100),
    ]
    assert (await run(guide.ask, "Why?", messages={"answer": ["So."]})).output == "So."
    bought = await run(guide.buy_all, [{"sku": "A1"}, {"sku": "B2"}], children={guide.buy: "paid"})
    assert bought.output == ["paid", "paid"]
    assert [child.id for child in bought.children] == ["test:0", "test:1"]
    assert (await run(guide.greet_warmly, "Ada")).output == "Hello dear Ada"
    assert "it is 2025-01-02" in capsys.readouterr().out


async def test_the_transactions_of_the_guide_are_sql(guide, database_url):
    from app.store.db import Database

    database = Database(database_url)
    async with database.transaction() as connection:
        await connection.execute("create table stock (sku text, available integer)")
        await connection.execute("insert into stock values ('A1', 3)")
        order = {"sku": "A1", "quantity": 2}

        assert (await testing.run(guide.reserve, order, connection=connection)).output == 1
        assert "not enough of A1" in str((await testing.run(guide.reserve, order, connection=connection)).error)
        aborted = {"workflow_id": "w", "status": "CANCELLED", "input": order}
        assert (await testing.run(guide.give_back, aborted, connection=connection)).output == 1
    await database.close()


def test_every_option_of_the_decorator_is_in_the_guide():
    options = [
        name for name in inspect.signature(definitions.workflow).parameters if name not in ("function", "registry")
    ]

    assert [name for name in options if f"| `{name}` |" not in GUIDE.read_text()] == []
