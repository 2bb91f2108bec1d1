"""Cursors: they carry their filters, and know their own."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import paging
from app.api.schemas.workflows import ListQuery
from app.errors import InvalidCursor

PATH = "/workflows"


def page(query: str, cursor: str | None = None) -> paging.Page[ListQuery]:
    return paging.begin(PATH, ListQuery.read(query.encode()), cursor)


def test_a_cursor_brings_back_its_filters_and_position():
    cursor = page("status=FAILED&tag=a:b&limit=5").cursor([1, "x"])
    again = page("limit=7", cursor)
    assert (again.query.status, again.query.tag, again.query.limit) == (("FAILED",), (("a", "b"),), 7)
    assert again.position == [1, "x"]
    assert page("", again.cursor(2)).query.status == ("FAILED",)


@pytest.mark.parametrize("query", ["", "status=FAILED", "order=desc", "limit=1", "include=input"])
def test_the_same_filters_may_be_repeated(query):
    assert page(query, page("status=FAILED").cursor(1)).position == 1


@pytest.mark.parametrize("query", ["status=DEAD", "status=FAILED&status=DEAD", "order=asc", "name=x", "tag=a:b"])
def test_other_filters_are_refused(query):
    with pytest.raises(InvalidCursor):
        page(query, page("status=FAILED").cursor(1))


def test_the_link_keeps_what_is_no_filter():
    link = page("status=FAILED&limit=5&include=output").link("c u")["Link"]
    assert link == '</workflows?limit=5&include=output&cursor=c+u>; rel="next"'
    assert page("").link(None) == {}


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_was_not_made_here_is_refused(cursor):
    with pytest.raises(InvalidCursor):
        page("", cursor)


def test_a_cursor_of_another_path_is_refused():
    cursor = page("").cursor(1)
    with pytest.raises(InvalidCursor):
        paging.begin("/definitions", ListQuery.read(b""), cursor)


@given(st.data())
def test_a_changed_cursor_is_refused(data):
    cursor = page("status=FAILED").cursor([5])
    place = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.sampled_from("ABCabc012-_").filter(lambda letter: letter != cursor[place]))
    changed = cursor[:place] + other + cursor[place + 1 :]
    try:
        assert page("", changed).position == [5]  # the last letter has bits that mean nothing
        assert place == len(cursor) - 1
    except InvalidCursor:
        pass
