"""Several services over one private, durable PostgreSQL, which can be made to crash."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from app.store.embedded import EmbeddedPostgres
from tests.support.service import Service
from tests.support.waiting import eventually_sync


class Cluster:
    """`settings` are those of every replica."""

    def __init__(self, folder: Path, settings: Mapping[str, object], *, modules: Path | None = None) -> None:
        self._folder, self._settings, self._modules = folder, settings, modules
        self._postgres = EmbeddedPostgres(folder / "postgres")
        self._made: list[Service] = []

    @property
    def url(self) -> str:
        return self._postgres.url()

    def replicas(self, count: int, **settings: object) -> list[Service]:
        """So many new ones, ready, that know of each other."""
        given = {"DATABASE_URL": self.url, "EXAMPLES": False, **self._settings, **settings}
        new = [Service(self._folder, given, modules=self._modules) for _ in range(count)]
        self._made += new
        self.start(*new)
        return new

    def start(self, *replicas: Service) -> None:
        """Start those of these that don't run."""
        begun = [replica.spawn() for replica in replicas if not replica.runs()]
        for replica in begun:
            eventually_sync(replica.ready, timeout=40, message=lambda replica=replica: replica.log)
        if begun:
            self.settle()

    def settle(self) -> None:
        """Wait until everybody has seen who there is: until two heartbeats have come of each."""
        before = dict(self.ask("select id, heartbeat_at from executors where alive"))
        for _ in range(2):
            at = self.ask("select now()")[0][0]
            eventually_sync(
                lambda at=at: not self.ask(f"select 1 from executors where alive and heartbeat_at < '{at}'"),
                message=lambda: f"no heartbeat comes of one of {before}",
            )

    def executor(self, replica: Service) -> str:
        """The id under which a replica is known now."""
        return str(self.ask(f"select id from executors where alive and pid = {replica.pid}")[0][0])

    def executors(self) -> set[str]:
        return {row[0] for row in self.ask("select id from executors where alive")}

    def ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True, options="-c timezone=UTC") as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def crash_database(self) -> None:
        """As `pg_ctl restart -m immediate`: every connection breaks, and it has to recover."""
        pid = int((self._postgres.folder / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        self._postgres.stop()
        self._postgres.start()

    def _end(self) -> None:
        for replica in self._made:
            if replica.runs():
                replica.signal(signal.SIGCONT)
                replica.kill()


@contextmanager
def cluster(folder: Path, settings: Mapping[str, object], *, modules: Path | None = None) -> Iterator[Cluster]:
    made = Cluster(folder, settings, modules=modules)
    with made._postgres:
        try:
            yield made
        finally:
            made._end()
