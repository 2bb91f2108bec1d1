"""Queries are read as they were sent; paths and headers too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import etags
from app.api.request import decode_path
from app.api.schemas.base import Mode, NoQuery
from app.api.schemas.events import BoardQuery, EventQuery, StreamQuery
from app.api.schemas.workflows import ListQuery
from app.errors import InvalidRequest


def refused(model, raw: bytes) -> list[str | None]:
    with pytest.raises(InvalidRequest) as refusal:
        model.read(raw)
    return [fault.parameter for fault in refusal.value.faults]


def test_what_is_left_out_has_its_default():
    assert EventQuery.read(b"").timeout is None
    assert BoardQuery.read(b"").key == ()


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("25", 25), ("0.5", 0.5), ("3600", 3600), ("3600.0", 3600), ("0.000001", 1e-6)]
)
def test_a_number_is_plain_digits(text, number):
    assert EventQuery.read(f"timeout={text}".encode()).timeout == number


@pytest.mark.parametrize(
    "text", ["", "05", "1.", ".1", "+1", "1e1", "1_0", "%201", "1%20", "0x1", "nan", "3600.1", "1,5"]
)
def test_other_numbers_are_refused(text):
    assert refused(EventQuery, f"timeout={text}".encode()) == ["timeout"]


@pytest.mark.parametrize("text", ["1.0", "00", "-1", str(2**53), "9" * 5000, "%D9%A1"])
def test_a_position_is_a_whole_number(text):
    assert refused(EventQuery, f"after={text}".encode()) == ["after"]


def test_lists_are_repeated_and_others_are_not():
    assert BoardQuery.read(b"key=a&key=b+c&mode=any").key == ("a", "b c")
    assert BoardQuery.read(b"mode=any").mode is Mode.ANY
    assert refused(BoardQuery, b"mode=any&mode=all&limit=1&limit=1") == ["mode", "limit"]


def test_unknown_and_empty_parameters_are_refused():
    assert refused(NoQuery, b"a=1&b=2") == ["a", "b"]
    assert refused(EventQuery, b"timeout") == ["timeout"]
    assert refused(EventQuery, b"&") == [""]
    assert refused(StreamQuery, b"names=True") == ["names"]


def test_bad_encodings_are_refused():
    for raw in (b"key=%ff", b"key=%zz", b"key=%", b"key=\xff", b"key=%ED%A0%80"):
        assert refused(BoardQuery, raw) == ["key"]
    assert refused(BoardQuery, b"%ff=1") == [""]


def test_a_tag_is_split_at_its_first_colon():
    assert ListQuery.read(b"tag=a:b:c&tag=d:").tag == (("a", "b:c"), ("d", ""))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_different_segments_of_a_path_never_come_out_alike(left, right):
    def encoded(text: str) -> bytes:
        return "".join(f"%{byte:02X}" for byte in text.encode()).encode()

    assert decode_path(encoded(left), "key") == left
    assert (decode_path(encoded(left), "key") == decode_path(encoded(right), "key")) is (left == right)


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        (None, {}),
        ("*", {}),
        ('W/"0a1b2c3d.7"', {"0a1b2c3d": 7}),
        ('"0a1b2c3d.7"', {"0a1b2c3d": 7}),
        ('"x", W/"0a1b2c3d.7" ,W/"0a1b2c3d.12",W/"00000000.1"', {"0a1b2c3d": 12, "00000000": 1}),
        ('W/"0a1b2c3d.07", "0A1B2C3D.7", "0a1b2c3d"', {}),
    ],
)
def test_only_tags_of_our_own_are_a_condition(header, seen):
    assert etags.seen(header) == seen
