"""The code blocks of the guides are run, one after the other, as their readers would."""

import inspect
import re
import shlex
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app import Registry, testing
from app.authoring import definitions

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "authoring.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "http://127.0.0.1:8000"


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The code blocks of a page, each with the number of its first line."""
    text = page.read_text()
    for block in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text[: block.start()].count("\n") + 1, block[1]


def curls(page: Path, address: str) -> list[httpx.Request]:
    """The requests that a page's curl commands make."""
    lines = re.findall(r"^    (curl .*(?:(?<=\\)\n.*)*)", page.read_text(), re.MULTILINE)
    return [_request(shlex.split(line.replace("\\\n", " "), comments=True), address) for line in lines]


def _request(words: list[str], address: str) -> httpx.Request:
    headers, data, url = {}, None, ""
    arguments = iter(words[1:])
    for word in arguments:
        if word == "-H":
            name, _, value = next(arguments).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = next(arguments)
        elif word != "-N":
            assert not url, words
            url = word
    assert url.startswith(ADDRESS), words
    method = "GET" if data is None else "POST"
    return httpx.Request(method, url.replace(ADDRESS, address), headers=headers, content=data)


def shown(answer: str) -> set[str]:
    """The members in an answer, perhaps shortened."""
    return set(re.findall(r'"(\w+)":', answer))


@pytest.fixture
def guide(monkeypatch):
    monkeypatch.setattr(definitions, "_default", Registry())
    module = types.ModuleType("guide")
    for line, block in blocks(GUIDE, "python"):
        exec(compile("\n" * line + block, str(GUIDE), "exec", dont_inherit=True), module.__dict__)
    return module


def test_whoever_follows_the_readme_gets_what_it_says(launch, tmp_path, capsys):
    following, approval = [block for _, block in blocks(README, "python")]
    started, paid, ended = [block for _, block in blocks(README, "json")]
    (tmp_path / "approval.py").write_text(approval)
    service = launch(modules=tmp_path, WORKFLOWS="approval")
    checkout, status, result, steps, stream, approve, verdict, approved = curls(README, service.url)

    with service.client() as client, ThreadPoolExecutor(1) as aside:
        answer = client.send(checkout)
        assert answer.status_code == 201
        assert shown(started) <= shown(answer.text)
        service.restart()
        waiting = aside.submit(client.send, status)
        client.post(answer.json()["events"]["payment_url"]["value"] + "/pay")
        answer = waiting.result()
        assert shown(paid) == shown(answer.text)
        assert (answer.json()["value"], answer.json()["position"]) == ("paid", 4)
        answer = client.send(result)
        assert shown(ended) <= shown(answer.text)
        assert answer.json()["output"]["status"] == "shipped"
        assert client.send(steps).json()["steps"][0]["name"] == "reserve"
        assert "event: $end" in client.send(stream).text

        exec(following.replace(ADDRESS, service.url), {})
        assert capsys.readouterr().out == "shipped\n"

        assert client.send(approve).json()["events"]["waiting_for"]["value"] == "an editor"
        assert client.send(verdict).status_code == 201
        assert client.send(approved).json()["output"] == "https://example.com/5"


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


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
