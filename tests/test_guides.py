"""The code blocks of the guides are run, one after the other, as their readers would."""

import inspect
import json
import re
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app import Registry, testing
from app.authoring import definitions
from tests.support import shell
from tests.support.guides import script

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "authoring.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"


@pytest.fixture
def guide(monkeypatch):
    monkeypatch.setattr(definitions, "_default", Registry())
    module = types.ModuleType("guide")
    with script("docs/authoring.md", only="python") as blocks:
        for block in blocks.rest("python"):
            code = compile("\n" * (block.line - 1) + block.text, block.page, "exec", dont_inherit=True)
            exec(code, module.__dict__)
    return module


def test_a_checkout_goes_as_the_readme_says(tmp_path):
    with script("README.md", "Try it") as blocks:
        made, curl, started = blocks.take("sh"), blocks.take("sh"), blocks.take("json")
        wait, paid, ends, ended = blocks.take("sh"), blocks.take("json"), blocks.take("sh"), blocks.take("json")

    with shell.serving(made, tmp_path) as service:
        answer = shell.run(curl, address=service.url)
        assert started.at(service.url).fits(answer), answer
        service.kill()
    url = json.loads(answer)["events"]["payment_url"]["value"]
    port = int(service.url.rpartition(":")[2])
    with shell.serving(made, tmp_path, port=port) as service, ThreadPoolExecutor(1) as aside:
        waiting = aside.submit(shell.run, wait, address=service.url)
        httpx.post(f"{url}/pay", trust_env=False)
        assert paid.fits(waiting.result()), waiting.result()
        result = shell.run(ends, address=service.url)
    assert ended.fits(result), result


def test_the_workflow_of_the_readme_does_what_it_says(tmp_path):
    with script("README.md", "Write a workflow") as blocks:
        module, made, curls = blocks.take("python"), blocks.take("sh"), blocks.take("sh")
    (tmp_path / "approval.py").write_text(module.text)

    with shell.serving(made, tmp_path, env={"PYTHONPATH": str(tmp_path)}) as service:
        asked, _, approved = shell.answers(shell.run(curls, address=service.url))

    assert asked["events"]["waiting_for"]["value"] == "an editor"
    assert approved["output"] == "https://example.com/5"


def test_the_targets_that_the_pages_name_are_there():
    with script("README.md", "Develop") as blocks:
        assert "pytest" in shell.run(blocks.take("sh"), before=shell.DRY)
    with script("docs/reliability.md", "To run it") as blocks:
        assert "--seconds 3600" in shell.run(blocks.take("sh"), before=shell.DRY)


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


def test_the_modules_that_the_architecture_names_are_there():
    named = re.findall(r"`((?:engine|store|authoring)[./]\w+(?:\.(?:py|sql))?)`", ARCHITECTURE.read_text())

    assert named
    for name in named:
        path = ROOT / "app" / name.replace(".", "/", 1 if "/" not in name else 0)
        assert path.exists() or path.with_suffix(".py").exists(), name


def test_every_option_of_the_decorator_is_in_the_guide():
    options = [
        name for name in inspect.signature(definitions.workflow).parameters if name not in ("function", "registry")
    ]

    assert [name for name in options if f"| `{name}` |" not in GUIDE.read_text()] == []
