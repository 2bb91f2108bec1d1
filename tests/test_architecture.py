"""The house keeps its own rules: layers, locks, what may not stand in a file."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.release import VERSION
from app.settings import Settings

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock")
SOURCES = sorted((ROOT / "app").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def shipped() -> list[Path]:
    """Every text file of the project, as a clone of it would have."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # an archive without its history
        return [*SOURCES, *TESTS]
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_imports_point_down():
    program = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_package_by_hash_and_names_no_host(name: str):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "index" not in re.sub(r"(?m)^ *#.*$", "", text)
    requirements = re.split(r"\n(?=\S)", re.sub(r"(?m)^ *#.*\n", "", text).strip())
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z,]+\])?==", requirement, re.IGNORECASE), requirement
        assert "--hash=sha256:" in requirement, requirement


def test_the_development_lock_holds_all_of_the_other_at_the_same_versions():
    run, dev = (set(re.findall(r"(?m)^[\w.-]+(?:\[[\w,]+\])?==[\w.]+", (ROOT / name).read_text())) for name in LOCKS)
    assert run < dev


def test_the_version_is_one():
    assert PROJECT["project"]["version"] == VERSION
    assert json.loads((ROOT / "openapi.json").read_text())["info"]["version"] == VERSION


def test_the_page_of_settings_has_every_one():
    page = (ROOT / "docs" / "operations" / "settings.md").read_text()
    assert not [name for name in Settings.model_fields if f"`{name.upper()}`" not in page]


def test_no_file_names_a_registry_or_a_folder_of_some_machine():
    # Put together here, so that this file does not name them either.
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs", "org"))]
    forbidden = re.compile("|".join([*map(re.escape, hosts), r"(?<![\w.])/(?:root|work)/", r"/home/[a-z]"]))
    for path in shipped():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        assert not (found := forbidden.search(text)), f"{path.relative_to(ROOT)}: {found[0]}"


def test_nothing_is_left_undone_or_switched_off():
    words = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"))
    forbidden = re.compile(rf"\b(?:{words})\b|pytest\.(?:mark\.)?(?:skip|xfail)|# noqa *$", re.MULTILINE)
    for path in [*SOURCES, *TESTS]:
        assert not (found := forbidden.search(path.read_text())), f"{path.relative_to(ROOT)}: {found[0]}"


def test_types_are_not_switched_off_in_the_service():
    for path in SOURCES:
        assert not re.search(r"type:\s*ignore", path.read_text()), path.relative_to(ROOT)


def test_errors_are_not_swallowed():
    swallowed = re.compile(r"except(?: Exception| BaseException)?:\s*(?:pass|\.\.\.)|suppress\((?:Base)?Exception\)")
    for path in SOURCES:
        assert not (found := swallowed.search(path.read_text())), f"{path.relative_to(ROOT)}: {found[0]}"


def naps(node: ast.AST) -> Iterator[int]:
    """The lines of a test that sleep; the code that a test hands to the service may."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Call) and re.match(r"(?:time|asyncio|anyio)\.sleep\((?!0\))", ast.unparse(child)):
            yield child.lineno
        yield from naps(child)


def test_tests_wait_for_conditions_and_not_by_the_clock():
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert not (lines := list(naps(node))), f"{path.relative_to(ROOT)}: {lines}"


def test_every_module_says_what_it_is_for():
    for path in SOURCES:
        text = path.read_text()
        assert not text or text.startswith(('"""', "'''")), path.relative_to(ROOT)


def test_the_folder_of_migrations_does_not_hide_the_library():
    assert not (ROOT / "alembic" / "__init__.py").exists()
