"""README.md and docs/ hold nothing that no test runs, and point at nothing that is not there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import guides, shell
from tests.support.guides import Block

TESTS = Path(__file__).parent
PAGES = guides.pages()


Opened = tuple[str, str | None, str | None]


def opened() -> Iterator[Opened]:
    """What of the pages some test takes blocks from: the calls of `script` in the tests' source."""
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text()
        if "script(" not in text:
            continue
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == "script":
                page, section = [ast.literal_eval(argument) for argument in [*call.args, ast.Constant(None)][:2]]
                only = [ast.literal_eval(keyword.value) for keyword in call.keywords]
                yield page, section, only[0] if only else None


@pytest.mark.parametrize("page", PAGES)
def test_each_block_is_run_by_a_test_or_is_no_code(page):
    taken = [(section, language) for name, section, language in opened() if name == page]

    unrun = [block for block in guides.runnable(page) if not any(block.belongs(*what) for what in taken)]

    assert [f"{block} ({block.language or 'no language'})" for block in unrun] == []


@pytest.mark.parametrize("page", PAGES)
def test_code_stands_between_fences(page):
    """An indented block names no language, so nobody could say what it is."""
    before, blank, fenced, indented = "", False, False, []
    for number, line in enumerate((guides.ROOT / page).read_text().splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and blank and line.startswith("    ") and not re.match(r"\s|[-*] |\d+\. ", before):
            indented.append(f"{page}:{number}")
        blank = not line.strip()
        before = before if blank else line

    assert indented == []


def test_what_is_opened_has_blocks():
    assert [what for what in opened() if not any(block.belongs(*what[1:]) for block in guides.runnable(what[0]))] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page):
    path = guides.ROOT / page
    missing = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", path.read_text()):
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(f"{target}#{anchor}")

    assert missing == []


def anchors(page: Path) -> set[str]:
    """What a link can point at in a page, as GitHub names it."""
    headings = re.findall(r"(?m)^#+ +(.+)$", page.read_text())
    return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def block(language: str, text: str) -> Block:
    return Block("page.md", 1, language, (), text)


def test_an_answer_fits_what_is_shown_of_it():
    shown = block("json", '{"id": "a", …\n "value": "http://…/pay", "position": 2, …}')

    assert shown.fits('{"id":"a","name":"b","value":"http://host/x/pay","position":2,"more":1}')
    assert not shown.fits('{"id":"a","name":"b","value":"http://host/x/pay","position":3,"more":1}')
    assert not shown.fits('{"id":"a","name":"b","position":2,"more":1}')


def test_a_failing_line_fails_its_block():
    with pytest.raises(AssertionError, match="ended with 1"):
        shell.run(block("sh", "false\necho late\n"))


def test_of_a_console_block_the_commands_are_run():
    shown = block("console", "$ echo one \\\n    two\nsomething else\n$ echo three\n")

    assert shell.run(shown) == "one two\nthree\n"
