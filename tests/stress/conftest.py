"""Engines and services under stress: small in CI, and as large as `STRESS=10` says by hand."""

import os
import resource
from collections.abc import AsyncIterator

import pytest

from tests.support.engine import Engine, running


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with running(database_url) as engine:
        yield engine


@pytest.fixture(scope="session")
def scale() -> int:
    """By how much more than in CI."""
    return int(os.environ.get("STRESS", "1"))


@pytest.fixture(autouse=True, scope="session")
def _many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
