"""The PostgreSQL that all contestants share: the embedded one, durable, with its statements counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from app.store.embedded import USER, EmbeddedPostgres

JOURNAL = "select coalesce(sum(calls), 0) from pg_stat_statements where query ~ '^with (draft|started) as'"
STATEMENTS = """
    select coalesce(sum(calls), 0)
    from pg_stat_statements s join pg_database d on d.oid = s.dbid
    where d.datname = current_database() and s.userid::regrole::text <> current_user
"""
ASKING = "bench"
"""The role in which the benchmark asks, so that its own statements are told from the others'."""


class Postgres:
    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self.pid = int((server.folder / "pgdata" / "postmaster.pid").read_text().split()[0])

    def url(self, database: str) -> str:
        return self._server.url(database)

    def create(self, database: str) -> None:
        self.ask("postgres", f"drop database if exists {database} with (force)")
        self.ask("postgres", f"create database {database} owner {USER}")
        self.ask(database, "create extension if not exists pg_stat_statements")

    def ask(self, database: str, query: str, *parameters: object) -> Sequence[Any]:
        with psycopg.connect(self.url(database), user=ASKING, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchone() or () if cursor.description else ()

    def written(self) -> int:
        """Bytes of the log of what was written, from its beginning."""
        return int(self.ask("postgres", "select pg_current_wal_lsn() - '0/0'")[0])

    def statements(self, database: str) -> tuple[int, int]:
        """Of a database: all that were sent, and Milepost's flushes of its journal."""
        return int(self.ask(database, STATEMENTS)[0]), int(self.ask(database, JOURNAL)[0])


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Postgres]:
    """With these settings besides."""
    server = EmbeddedPostgres(folder, max_connections=200)
    with server, psycopg.connect(server.url(), autocommit=True) as connection:
        for name, value in {"shared_preload_libraries": "pg_stat_statements", **settings}.items():
            connection.execute(f"alter system set {name} = '{value}'".encode())
        connection.execute(f"create role {ASKING} superuser login".encode())
    with server:
        yield Postgres(server)
