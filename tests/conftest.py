"""What every test may ask for: an event loop, a database of its own, the running service.

`TEST_DATABASE_URL` names a server to make the test databases on; without it an embedded one is
started for the session, fast and forgetful. `tests.support.ways` has two more switches.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app import telemetry
from app.store.embedded import EmbeddedPostgres
from tests.support import ways
from tests.support.databases import Databases
from tests.support.service import Service

MARKERS = {
    "alone": "what this test measures must not be disturbed by other tests",
    "apart": "this test is one of many that take long, and have a target of their own",
    **ways.MARKERS,
}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if ways.left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for all, the one that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    telemetry.configure("warning")


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """The test session's PostgreSQL server."""
    with ExitStack() as running:
        url = os.environ.get("TEST_DATABASE_URL")
        if url is None:
            folder = tmp_path_factory.mktemp("postgres")
            postgres = running.enter_context(EmbeddedPostgres(folder, fsync=False, max_connections=300))
            url = postgres.url("postgres")
        running.enter_context(ways.arranged(tmp_path_factory.mktemp("pooler"), url))
        yield Databases(url)


@pytest.fixture(scope="session")
def template(databases: Databases) -> Iterator[str]:
    """The name of a migrated database that nobody connects to."""
    with databases.template() as name:
        yield name


@pytest.fixture
def database_url(databases: Databases, template: str) -> Iterator[str]:
    """A fresh, migrated database."""
    with databases.clone(template) as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A fresh database without a schema."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def launch(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services on this test's database: `launch(EXAMPLES=False, modules=folder)`; all end with the test."""
    with ExitStack() as running:

        def launch(*, modules: Path | None = None, **settings: object) -> Service:
            given = {"DATABASE_URL": database_url, **settings}
            return running.enter_context(Service(tmp_path, given, modules=modules))

        yield launch


@pytest.fixture
def service(launch: Callable[..., Service]) -> Service:
    """One service with the examples, ready."""
    return launch()
