"""How the services under test reach their database, by two switches for a whole run of tests.

`TEST_POOLER=true` puts a PgBouncer in transaction mode between; what a test itself asks the database goes past it.
`TEST_NOTIFICATIONS=false` has no process tell another one of its commits.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from tests.support.pooler import Pooler

POOLED = os.environ.get("TEST_POOLER") == "true"
NOTIFICATIONS = os.environ.get("TEST_NOTIFICATIONS") != "false"

MARKERS = {
    "direct": "what this test shows is said of connections to the database itself, not of a pooler's",
    "hints": "what this test shows is said of hints between processes",
}

_between: tuple[URL, Pooler] | None = None


def by_way(url: str) -> str:
    """The URL that a service is given for a database of this run's server, whose own is `url`."""
    if _between is None:
        return url
    server, pooler = _between
    database = make_url(url)
    return pooler.url(str(database.database)) if database.set(database=server.database) == server else url


@contextmanager
def arranged(folder: Path, server: str) -> Iterator[None]:
    """With what the switches ask for before the server of this run."""
    global _between  # noqa: PLW0603 - one run of tests has one
    if not POOLED:
        yield
        return
    with Pooler(folder, server) as pooler:
        _between = make_url(server), pooler
        try:
            yield
        finally:
            _between = None


def left_out(item: pytest.Item) -> bool:
    """Whether a test has nothing to show by the ways of this run."""
    return (POOLED and item.get_closest_marker("direct") is not None) or (
        (POOLED or not NOTIFICATIONS) and item.get_closest_marker("hints") is not None
    )
