"""A network with a PostgreSQL in it, for the containers of these tests."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.image.engine import Container, podman
from tests.support.waiting import eventually_sync

POSTGRES = "docker.io/library/postgres:18"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    name = "milepost-test"
    podman("network", "create", name)
    yield name
    podman("network", "rm", name)


@pytest.fixture(scope="session")
def postgres(network: str) -> Iterator[str]:
    """The name of a container."""
    name = "milepost-test-database"
    variables = [f"--env=POSTGRES_{what}=milepost" for what in ("USER", "PASSWORD", "DB")]
    podman("run", "--detach", f"--name={name}", f"--network={network}", *variables, POSTGRES)
    try:
        eventually_sync(
            lambda: podman("exec", name, "pg_isready", "--host=127.0.0.1", check=False).returncode == 0, timeout=60
        )
        yield name
    finally:
        podman("rm", "--force", "--time", 0, "--volumes", name)


@pytest.fixture
def database_url(postgres: str) -> str:
    """An empty database of one's own, as containers reach it."""
    name = f"test_{next(_numbers)}"
    server = "postgresql://milepost:milepost@127.0.0.1/milepost"
    podman("exec", postgres, "psql", server, f"--command=create database {name}")
    return f"postgresql://milepost:milepost@{postgres}/{name}"


@pytest.fixture
def run(network: str, database_url: str) -> Iterator[Callable[..., Container]]:
    """Start containers on this test's database: `run(ROLE="api")`; all end with the test."""
    with ExitStack() as running:

        def run(*command: str, options: tuple[str, ...] = (), image: str = "milepost", **settings: object) -> Container:
            given = {"DATABASE_URL": database_url, "ALLOW_ANONYMOUS": "true", "PUBLIC_URL": "http://localhost:8000"}
            container = Container(
                command or ("serve",),
                settings=given | settings,
                options=(f"--network={network}", *options),
                image=image,
            )
            return running.enter_context(container)

        yield run
