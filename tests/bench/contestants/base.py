"""What is measured: something that is started, does checkouts by HTTP, knows which have finished, and is stopped."""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import httpx

from tests.bench.generator import Script
from tests.bench.postgres import Postgres

BENCH = Path(__file__).parents[1]
ROOT = BENCH.parents[1]
INSTALLED = ROOT / "build" / "bench"

EVENT = "/workflows/%ID%/events/payment_url?timeout=25"
TWO = Script("/workflows", method="GET", wait=EVENT)
START = Script("/workflows")


@dataclass(frozen=True, slots=True)
class Count:
    """Of the workflows that were started since a moment, as the database says."""

    started: int
    finished: int
    """Those that had finished by another moment."""
    unfinished: int
    """Those that have not finished yet."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contestant runs: a folder of its own, and the database server."""

    folder: Path
    postgres: Postgres


class Contestant(ABC):
    """One way to do checkouts; use it in a `with` block."""

    name: ClassVar[str]
    settings: ClassVar[str]
    """What it runs with, for the document."""
    scripts: ClassVar[Mapping[str, Script]]
    database: str | None = None
    """The name of its own, if it has one in the shared server."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = ""
        self._running = ExitStack()

    @abstractmethod
    def start(self) -> None:
        """Bring it up; what is to be ended later is entered into `_running`."""

    @abstractmethod
    def processes(self) -> Mapping[str, int]:
        """Whose processor time is counted, besides the database's: parts and process ids, children included."""

    @abstractmethod
    def count(self, began: float, ended: float) -> Count | None:
        """By the clock of the wall; None where nothing is kept."""

    def __enter__(self) -> Self:
        self.place.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def counted(self, query: str, *moments: float) -> Count:
        assert self.database
        return Count(*self.place.postgres.ask(self.database, query, *moments))


class Program:
    """A process of a contestant, with its output in a file; it has answered when the block is entered."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        health: str,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> None:
        self._command, self._log, self._health, self._timeout = list(map(str, command)), log, health, timeout
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._log.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"{' '.join(self._command)} does not answer:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """At once, with all that it has started: nothing of it is needed any more."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(self._health, timeout=5, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False
