"""Bring the schema to what this code needs, and tell whether it is there.

Revisions are numbered `0001`, `0002`, …: a higher one is a later one, also where this code is too
old to know it. A schema beyond what this code needs is left as it is, so that the version before
goes on running while a new one is rolled out, or after it was rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from app.errors import DatabaseUnavailable, MilepostError
from app.store import db

SCRIPTS = Path(__file__).parents[2] / "alembic"
_OLDEST_SERVER = 14
# Any number that no other user of the database is likely to take for an advisory lock.
_LOCK = 0x4D696C65706F7374
_LOCK_TIMEOUT = "5s"


class MigrationError(MilepostError):
    """The schema could not be brought to what this version needs."""


@cache
def head() -> str:
    """The revision that this code needs."""
    revision = ScriptDirectory(str(SCRIPTS)).get_current_head()
    if revision is None:
        raise MigrationError(f"There are no migrations in {SCRIPTS}.")
    return revision


def suffices(revision: str | None) -> bool:
    """Whether a schema at this revision is at or beyond what this code needs."""
    return revision is not None and revision >= head()


def migrate(url: str) -> str:
    """Bring the database to `head`, and return the revision it is at then.

    Any number of processes may do so at once: one works, the others wait and find it done.
    Raises `DatabaseUnavailable` when trying again may help.
    """
    return _run(url, head()) or ""


def downgrade(url: str, revision: str = "base") -> str | None:
    """Take revisions back, with all that is in their tables."""
    return _run(url, revision, down=True)


def current(url: str) -> str | None:
    """The revision that the database is at."""
    with _available(), _engine(url).connect() as connection:
        return _current(connection)


def _run(url: str, target: str, *, down: bool = False) -> str | None:
    with _available(), _engine(url).begin() as connection:
        _check_server(connection)
        # Taken for the transaction, which works behind a pooler too; waits for as long as the other works.
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({_LOCK})")
        connection.exec_driver_sql(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
        connection.exec_driver_sql("set local statement_timeout = 0")
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
        config.attributes["connection"] = connection
        if down:
            command.downgrade(config, target)
        elif not suffices(_current(connection)):
            command.upgrade(config, target)
        return _current(connection)


def _engine(url: str) -> Engine:
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        hide_parameters=True,
        # Nothing is prepared: behind a pooler it would stay in a session that somebody else gets.
        connect_args={
            **db.KEEPALIVE,
            "application_name": "milepost migrate",
            "client_encoding": "utf8",
            "prepare_threshold": None,
        },
    )


@contextmanager
def _available() -> Iterator[None]:
    """Tell a database that is away or busy from one that refuses."""
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig).strip().rpartition("\n")[2].strip()
        if error.orig and db.verdict(error.orig) in (db.Verdict.LOST, db.Verdict.BUSY):
            raise DatabaseUnavailable(reason) from error
        raise MigrationError(f"The database refuses what Milepost needs: {reason}") from error


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _check_server(connection: Connection) -> None:
    version = int(connection.exec_driver_sql("show server_version_num").scalar_one()) // 10000
    if version < _OLDEST_SERVER:
        raise MigrationError(f"The database is PostgreSQL {version}; Milepost needs {_OLDEST_SERVER} or newer.")
    encoding = connection.exec_driver_sql("show server_encoding").scalar_one()
    if encoding != "UTF8":
        raise MigrationError(
            f"The database has the encoding {encoding}; Milepost needs UTF8:"
            " CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )
