"""Answers as text."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.api import render


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, "null"),
        (datetime(2030, 1, 31, 8, 5, 9, 7, UTC), '"2030-01-31T08:05:09.000007Z"'),
        (datetime(2030, 1, 31, tzinfo=UTC), '"2030-01-31T00:00:00.000000Z"'),
        (datetime(2030, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2))), '"2029-12-31T23:30:00.000000Z"'),
        (datetime(1, 1, 1, tzinfo=UTC), '"0001-01-01T00:00:00.000000Z"'),
    ],
)
def test_a_time_is_in_utc_with_all_its_digits(moment, text):
    assert render.time(moment) == text
