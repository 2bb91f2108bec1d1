"""`make bench ARGS=small`: Milepost alone, in a minute and with nothing to install. `small --rounds 5` takes longer.

A checkout is a workflow of two steps and one event. Customers wait for that event, in the request that starts
the workflow or in a second one, or don't wait at all; a bare FastAPI that only echoes, on the same machine in the
same run, says what the figures are worth. The database is the embedded one, with fsync on. The rounds of all rows
are interleaved; each figure is a median, and what is behind ± half the distance of the extremes.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from app.store.embedded import EmbeddedPostgres
from tests.bench import machine
from tests.bench.client import SCENARIOS
from tests.support.ports import free_port
from tests.support.service import ROOT, Service
from tests.support.waiting import eventually_sync

CLIENTS = (1, 32)
JOURNAL = "select coalesce(sum(calls), 0) from pg_stat_statements where query ~ '^with (draft|started) as'"
UNFINISHED = "select count(*) from workflows where completed_at is null"

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Echo:
    url: str
    pid: int


class Bench:
    def __init__(self, service: Service, echo: Echo, postgres: EmbeddedPostgres) -> None:
        self._service, self._echo, self._postgres = service, echo, postgres
        self._postmaster = int((postgres.folder / "pgdata" / "postmaster.pid").read_text().split()[0])

    def run(self, scenario: str, clients: int, seconds: float) -> Figures:
        if scenario == "echo":
            began = machine.cpu(self._echo.pid)
            figures = self._order(self._echo.url, scenario, clients, seconds)
            return {**figures, "service": 1e6 * (machine.cpu(self._echo.pid) - began) / figures["done"]}
        before = self._spent()
        figures = self._order(self._service.url, scenario, clients, seconds)
        eventually_sync(lambda: self._ask(UNFINISHED) == 0, timeout=60)
        spent = [after - earlier for after, earlier in zip(self._spent(), before, strict=True)]
        service, database, flushes = (amount / figures["done"] for amount in spent)
        return {**figures, "service": 1e6 * service, "database": 1e6 * database, "flushes": flushes}

    def _spent(self) -> tuple[float, float, float]:
        return machine.cpu(self._service.pid), machine.cpu(self._postmaster), float(self._ask(JOURNAL))

    def _order(self, url: str, scenario: str, clients: int, seconds: float) -> Figures:
        command = [sys.executable, "-m", "tests.bench.client", url, scenario, str(clients), str(seconds)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        figures: Figures = json.loads(done.stdout)
        return figures

    def _ask(self, query: str) -> Any:
        with psycopg.connect(self._postgres.url(), autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def database(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A durable PostgreSQL that counts its statements."""
    postgres = EmbeddedPostgres(folder)
    with postgres, psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
    with postgres:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("create extension pg_stat_statements")
        yield postgres


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """A service and an echo, ready to be measured."""
    with ExitStack() as running:
        postgres = running.enter_context(database(folder / "postgres"))
        settings = {"DATABASE_URL": postgres.url(), "WORKFLOWS": "tests.bench.workflows", "EXAMPLES": False}
        service = running.enter_context(Service(folder, settings))
        yield Bench(service, running.enter_context(echo()), postgres)


@contextmanager
def echo() -> Iterator[Echo]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.echo", str(port)], cwd=ROOT)
    try:
        eventually_sync(lambda: _listens(port))
        yield Echo(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def table(results: dict[tuple[str, int], list[Figures]]) -> Iterator[str]:
    heads = ("clients", "", "per second", "to echo", "p50 ms", "p99 ms", "service µs", "database µs", "flushes")
    yield "{:>7} {:<14} {:>14} {:>8} {:>14} {:>16} {:>14} {:>14} {:>8}".format(*heads)
    for (scenario, clients), rounds in results.items():

        def figure(name: str, digits: int = 0, rounds: list[Figures] = rounds) -> str:
            values = [figures[name] for figures in rounds if name in figures]
            if not values:
                return ""
            return f"{median(values):.{digits}f} ±{(max(values) - min(values)) / 2:.{digits}f}"

        plain = median(figures["rate"] for figures in results["echo", clients])
        ratio = f"{median(figures['rate'] for figures in rounds) / plain:.2f}"
        flushes = f"{median(figures.get('flushes', 0) for figures in rounds):.2f}" if scenario != "echo" else ""
        yield (
            f"{clients:>7} {scenario:<14} {figure('rate'):>14} {ratio:>8} {figure('p50', 2):>14} {figure('p99', 2):>16}"
            f" {figure('service'):>14} {figure('database'):>14} {flushes:>8}"
        )


def main(words: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(prog="make bench ARGS=small", description=__doc__.partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=3, help="how often each figure is measured (3)")
    arguments.add_argument("--seconds", type=float, default=2, help="how long a round of one row takes (2)")
    given = arguments.parse_args(words)
    (ROOT / "build").mkdir(exist_ok=True)
    # Not in the folder for temporary files: that may be no disk at all.
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as temporary, bench_in(Path(temporary)) as bench:
        folder = Path(temporary)
        disk, load = machine.disk(folder), os.getloadavg()[0]
        print(f"{platform.machine()}, {os.cpu_count()} processors, load {load:.1f}, 8 KiB on the disk in {disk:.2f} ms")
        rows = [(scenario, clients) for clients in CLIENTS for scenario in SCENARIOS]
        for row in rows:
            bench.run(*row, seconds=0.5)  # warm
        results: dict[tuple[str, int], list[Figures]] = {row: [] for row in rows}
        for number in range(given.rounds):
            for row in rows:
                if sys.stderr.isatty():
                    print(
                        f"round {number + 1} of {given.rounds}: {row[1]:>2} × {row[0]:<14}", end="\r", file=sys.stderr
                    )
                results[row].append(bench.run(*row, seconds=given.seconds))
        print("\n".join(table(results)))


if __name__ == "__main__":
    main()
