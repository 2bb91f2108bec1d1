"""Long strings lifted out of a document and put back: the value is the same, or nothing is lifted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import lifting, values
from app.errors import InvalidRequest

LINE = 'A line of words, "quoted", with a \\ and an end.\n'
WORDS = LINE * 100


def lifted(document: str) -> Any:
    found = lifting.lift(document.encode())
    assert found
    assert len(found.rest) < 200
    return found.put_back(json.loads(found.rest))


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
long_text = text.map(lambda some: some + WORDS + some)


@given(st.recursive(long_text | text, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner)))
def test_a_value_with_its_long_strings_put_back_is_the_value(value: Any) -> None:
    for escaped in (True, False):
        document = json.dumps(value, ensure_ascii=escaped)
        found = lifting.lift(document.encode())
        if found:
            assert found.put_back(json.loads(found.rest)) == value
        assert values.parse(document.encode()) == value


@pytest.mark.parametrize("end", ["", "\\", "\\\\", '"', '\\"', '"\\', "é", "\N{GRINNING FACE}", "\x7f"])
def test_a_long_string_is_lifted_whatever_its_end(end: str) -> None:
    value = {"a": WORDS + end, "b": ["x", end, WORDS + end], "c": 1.5}
    assert lifted(json.dumps(value)) == lifted(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize(
    "document",
    [
        json.dumps(["short", LINE]),
        json.dumps([WORDS, list(range(100_000))]),
        json.dumps([list(range(100_000)), WORDS]),
        json.dumps([WORDS, ["x"] * 1_000]),
        json.dumps(WORDS * 10),
        json.dumps(WORDS + "\\" * 100),
        json.dumps(WORDS + "\0"),
        json.dumps(WORDS + "\ud800"),
        json.dumps(WORDS)[:-1],
        json.dumps(WORDS).replace("words", r"w\ords"),
        json.dumps(WORDS).replace("words", "w\nords"),
    ],
    ids=[
        "short",
        "numbers behind",
        "numbers before",
        "strings",
        "quotes",
        "backslashes",
        "U+0000",
        "surrogate",
        "no end",
        "escape",
        "control",
    ],
)
def test_what_is_not_worth_it_or_not_as_it_should_be_is_left(document: str) -> None:
    assert lifting.lift(document.encode()) is None


def test_what_is_not_utf8_is_left() -> None:
    assert lifting.lift(b'"' + b"x" * 5_000 + b'\xff"') is None


def test_a_long_name_of_a_member_is_not_put_back() -> None:
    for document in (f'{{"{"x" * 5_000}":1}}', f'{{"{"x" * 5_000}":1,"{"x" * 5_000}":2}}'):
        found = lifting.lift(document.encode())
        assert found
        with pytest.raises(ValueError, match="no value"):
            found.put_back(json.loads(found.rest))


def test_a_long_name_of_a_member_is_read_all_the_same() -> None:
    assert values.parse(f'{{"{"x" * 5_000}":1}}'.encode()) == {"x" * 5_000: 1}
    with pytest.raises(InvalidRequest, match="twice"):
        values.parse(f'{{"{"x" * 5_000}":1,"{"x" * 5_000}":2}}'.encode())
