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
            _until_ready(replica)
        if begun:
            self.settle()

    def settle(self) -> None:
        """Wait until everybody has seen who there is: until a heartbeat has come of each."""
        at = self.ask("select now()")[0][0]
        late = f"select id from executors where alive and heartbeat_at < '{at}'"
        eventually_sync(lambda: not self.ask(late), 15, lambda: f"no heartbeat comes of {self.ask(late)}")

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


def _until_ready(replica: Service) -> None:
    eventually_sync(replica.ready, 90, lambda: replica.log)


@contextmanager
def cluster(folder: Path, settings: Mapping[str, object], *, modules: Path | None = None) -> Iterator[Cluster]:
    made = Cluster(folder, settings, modules=modules)
    with made._postgres:
        try:
            yield made
        finally:
            made._end()
