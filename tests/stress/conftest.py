"""Engines and services under stress: small in CI, and as large as `STRESS=10` says by hand."""

import os
import resource
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from app.store.embedded import EmbeddedPostgres
from tests.support.engine import Engine, running
from tests.support.service import Service


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with running(database_url) as engine:
        yield engine


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One for a module, on its PostgreSQL and with its SETTINGS."""
    settings = {"DATABASE_URL": postgres.url(), **request.module.SETTINGS}
    with Service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service
        assert "Traceback" not in service.log, service.log


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.async_client() as client:
        yield client


@pytest.fixture(scope="session")
def scale() -> int:
    """By how much more than in CI."""
    return int(os.environ.get("STRESS", "1"))


@pytest.fixture(autouse=True, scope="session")
def _many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
