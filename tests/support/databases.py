"""A fresh, migrated database for each test, cloned from a template."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from app.store import migrations

TEMPLATE = f"milepost_template_{os.getpid()}"
_numbers = itertools.count(1)


class Databases:
    """Makes databases on one server, which `admin_url` names."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url

    def url(self, name: str) -> str:
        return make_url(self._admin_url).set(database=name).render_as_string(hide_password=False)

    def run(self, statement: str, *names: str) -> None:
        query = sql.SQL(statement).format(*map(sql.Identifier, names))
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            connection.execute(query)

    @contextmanager
    def template(self) -> Iterator[str]:
        with self.empty(TEMPLATE) as url:
            migrations.migrate(url)
            yield TEMPLATE

    @contextmanager
    def empty(self, name: str | None = None) -> Iterator[str]:
        with self._made(name or self._new_name(), "create database {}") as url:
            yield url

    @contextmanager
    def foreign(self, encoding: str) -> Iterator[str]:
        """One of another encoding than Milepost takes."""
        statement = f"create database {{}} encoding '{encoding}' locale 'C' template template0"
        with self._made(self._new_name(), statement) as url:
            yield url

    @contextmanager
    def clone(self, template: str) -> Iterator[str]:
        with self._made(self._new_name(), "create database {} template {}", template) as url:
            yield url

    @contextmanager
    def _made(self, name: str, statement: str, *names: str) -> Iterator[str]:
        self.run(statement, name, *names)
        try:
            yield self.url(name)
        finally:
            self.run("drop database {} with (force)", name)

    @staticmethod
    def _new_name() -> str:
        return f"milepost_test_{os.getpid()}_{next(_numbers)}"
