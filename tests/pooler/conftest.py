"""What needs a PgBouncer of its own, in transaction mode and with its defaults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import Databases
from tests.support.pooler import Pooler


@pytest.fixture
def pooler(databases: Databases, tmp_path: Path) -> Iterator[Pooler]:
    with Pooler(tmp_path / "pgbouncer", databases.url("postgres")) as pooler:
        yield pooler


@pytest.fixture
def pooled_url(pooler: Pooler, database_url: str) -> str:
    """This test's database, by way of the pooler."""
    return pooler.url(database_url)
