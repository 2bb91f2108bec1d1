"""One engine, and two on one database."""

from collections.abc import AsyncIterator

import pytest

from tests.support.beats import rests
from tests.support.engine import Engine, running


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """It beats so seldom that no belt helps a test."""
    async with running(database_url, beat=3600.0) as engine:
        await rests(engine)
        yield engine


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[tuple[Engine, Engine]]:
    async with running(database_url) as one, running(database_url) as other:
        yield one, other
