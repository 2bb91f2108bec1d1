"""One service for the whole folder, with a log that is looked through at the end."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from tests.input.raw import CANARY, Connection
from tests.input.standing import stand
from tests.support.databases import Databases
from tests.support.service import Service

TABLES = ("workflows", "steps", "events", "messages", "waits", "callbacks")
DATABASE_PASSWORD = "pa55-of-the-c4n4ry"


@pytest.fixture(scope="session")
def hardened_url(databases: Databases, template: str) -> Iterator[str]:
    """Its database, by an address with a secret in it: the server asks for none, and takes any."""
    with databases.clone(template) as url:
        yield make_url(url).set(password=DATABASE_PASSWORD).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def hardened(hardened_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service. It writes all that it has to say, as JSON, and none of it may be what callers keep to themselves."""
    settings = {
        "DATABASE_URL": hardened_url,
        "WORKFLOWS": "tests.support.workflows,tests.input.workflows",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
        "DEFAULT_TIMEOUT": 0.2,
        "LINGER": 0.2,
    }
    with Service(tmp_path_factory.mktemp("input"), settings) as service:
        stand(service)
        yield service
        assert service.terminate() == 0, service.log
        look_through(service.log)


@pytest.fixture(scope="session")
def port(hardened: Service) -> int:
    return int(hardened.url.rpartition(":")[2])


@pytest.fixture
def connection(port: int) -> Iterator[Connection]:
    with Connection(port) as connection:
        yield connection


@pytest.fixture
def client(hardened: Service) -> Iterator[httpx.Client]:
    with hardened.client() as client:
        yield client


@pytest.fixture(scope="session")
def written(hardened: Service, hardened_url: str) -> Iterator[Callable[[], Any]]:
    """What the database holds, in short: how many rows, and how each workflow stands."""
    counts = ", ".join(f"(select count(*) from {table})" for table in TABLES)
    states = "(select string_agg(id || ' ' || status || ' ' || generation, ',' order by id) from workflows)"
    with psycopg.connect(hardened_url, autocommit=True) as database:
        yield lambda: database.execute(f"select {counts}, {states}").fetchone()


def look_through(log: str) -> None:
    """Nothing in it broke, and nothing in it is a secret."""
    lines = [json.loads(line) for line in log.splitlines() if not line.startswith(("Milepost ", "Data ", "Next: "))]
    broken = [line for line in lines if line["level"] in ("error", "critical") or "exception" in line]
    assert not broken, broken
    assert CANARY not in log, [line for line in log.splitlines() if CANARY in line]
