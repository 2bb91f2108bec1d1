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
    "direct": "what this test shows is said of sessions of one's own, which a pooler does not give",
    "hints": "what this test shows is said of hints between processes",
    "pooler": "this test needs PgBouncer, which `make test-pooler` sees to",
}

_between: tuple[URL, Pooler] | None = None


def by_way(url: str) -> str:
    """The URL that a service is given for a database of this run's server, whose own is `url`."""
    if _between is None:
        return url
    server, pooler = _between
    return pooler.url(url) if make_url(url).set(database=server.database) == server else url


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
    wanted = {"direct": not POOLED, "hints": NOTIFICATIONS and not POOLED, "pooler": POOLED}
    return any(item.get_closest_marker(name) is not None and not here for name, here in wanted.items())
