"""Engines for tests: one that keeps parked workflows in memory, and one that forgets them at once."""

from collections.abc import AsyncIterator

import pytest

from tests.support.engine import Engine, running


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with running(database_url) as engine:
        yield engine


@pytest.fixture
async def forgetful(database_url: str) -> AsyncIterator[Engine]:
    """What is parked leaves memory at once."""
    async with running(database_url, cache=0) as engine:
        yield engine


@pytest.fixture(params=[0, 100], ids=["forgetful", "caching"])
async def either(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Both, one after the other."""
    async with running(database_url, cache=request.param) as engine:
        yield engine
