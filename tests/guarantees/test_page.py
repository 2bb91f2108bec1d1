"""The page about what is promised names tests and mutants that there are."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.mutants.catalogue import MUTANTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
SECTIONS = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def names_in(file: str) -> set[str]:
    path = ROOT / file
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def test_every_promise_has_tests_and_every_test_that_is_named_is_there():
    for section in SECTIONS:
        assert TEST.search(section), f"nothing shows this: {section.splitlines()[0]}"
    missing = [f"{file}::{name}" for file, name in TEST.findall(PAGE) if name not in names_in(file)]
    assert not missing


def test_every_mutant_breaks_something_that_is_promised():
    told = [name for part in re.findall(r"Broken by (.+?)\.(?:\n|$)", PAGE, re.DOTALL) for name in italic(part)]
    assert sorted(told) == sorted(MUTANTS)


def italic(text: str) -> list[str]:
    return [" ".join(name.split()) for name in re.findall(r"\*([^*]+)\*", text)]
