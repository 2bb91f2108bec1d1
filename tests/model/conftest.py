"""Two replicas on one database, with a witness in it."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.model.puppet import LEDGER
from tests.model.replicas import Replica, replicas
from tests.support import audit
from tests.support.databases import Databases


@pytest.fixture(scope="module")
def pair(databases: Databases, template: str) -> Iterator[tuple[Replica, Replica]]:
    with databases.clone(template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(LEDGER)
            connection.execute(audit.SCHEMA.encode())
        with replicas(url) as both:
            yield both
