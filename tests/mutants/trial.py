"""Tests run on a copy of the service, in a process of their own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import LifoQueue

from tests.mutants import nursery

ROOT = Path(__file__).parents[2]
COPIED = ("app", "alembic", "tests", "pyproject.toml")
PATIENCE = 0.5
"""Of a test in a trial, as a part of what it has otherwise: to wait for what a mutant keeps from coming takes time."""
LIMIT = 150
"""Seconds that a trial may take."""


@dataclass(frozen=True)
class Verdict:
    code: int
    """What pytest ended with: 0, all passed; 1, some failed; whatever else, it could not even run them."""
    text: str

    @property
    def passed(self) -> bool:
        return self.code == 0

    @property
    def failed(self) -> bool:
        """A test said no. That one could not be set up, or was not found, is another thing."""
        return self.code == 1 and "\nFAILED " in self.text


def copy(folder: Path) -> Path:
    """A copy of the service and its tests."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)
    return folder


class Nurseries:
    """Processes that run tests, as many as are wanted at once. `server` is the PostgreSQL to make databases on."""

    def __init__(self, server: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MILEPOST_", "PYTEST_"))}
        # What is installed beside pytest is not needed here, and takes longer to load than most of these tests to run.
        self._environment = {**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        self._given = {"TEST_DATABASE_URL": server, "TEST_PATIENCE": str(PATIENCE)}
        self._idle: LifoQueue[subprocess.Popen[str]] = LifoQueue()

    def run(self, folder: Path, tests: Sequence[str]) -> Verdict:
        """Run tests in a copy."""
        process = self._start() if self._idle.empty() else self._idle.get()
        environment = {**self._given, "PYTHONPATH": str(folder)}
        order = {"folder": str(folder), "tests": list(tests), "limit": LIMIT, "environment": environment}
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        self._idle.put(process)
        return Verdict(code, (folder / nursery.OUTPUT).read_text(errors="replace"))

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().communicate()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, nursery.__file__],
            cwd="/",
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
