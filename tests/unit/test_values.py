"""Strict JSON: what is accepted comes back equal, what isn't is refused with its place."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import values
from app.errors import InvalidRequest, MalformedJson, ValueTooLarge

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5))


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def long(inner: str) -> str:
    """So long that it goes ways of its own."""
    return f"{'long ' * 1_000}{inner}"


def pointers(refusal: pytest.ExceptionInfo[InvalidRequest]) -> list[str | None]:
    return [fault.pointer for fault in refusal.value.faults]


def same(left: Any, right: Any) -> bool:
    """Equal as JSON values that know integers from doubles; repr tells 1 from 1.0, and keeps the order."""
    return repr(left) == repr(right)


@given(documents)
def test_an_accepted_value_comes_back_equal(value: Any) -> None:
    assert same(values.decode(values.encode(value)), value)
    assert same(values.parse(json.dumps(value)), value)
    assert same(values.parse(json.dumps(value, ensure_ascii=False).encode()), value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'"\xed\xa0\x80"',
        "{}".encode("utf-16"),
        b"{} {}",
        b"[1,]",
        b"{'a': 1}",
        b"[1] // no",
        b'"\x01"',
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"nan",
        b"[NaN, }",
    ],
)
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        values.parse(raw)


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        ('{"a": NaN}', "/a"),
        ("[1, -Infinity]", "/1"),
        ("Infinity", ""),
        ('{"a": [1e400]}', "/a/0"),
        ("-1E+400", ""),
        ("1" * 400 + ".0", ""),
        ('{"a": {"b": 1, "b": 2}}', "/a/b"),
        ('[{"": 1, "": 2, "x": 0}]', "/0/"),
        ('{"/~": 1, "\\u002f~": {"x": 1}}', "/~1~0"),
        ('{"a/b~c": "\\ud800"}', "/a~1b~0c"),
        ('["x", "\\udc00\\ud800"]', "/1"),
        ('{"a": "x\\u0000"}', "/a"),
        ('{"x\\u0000": 1}', "/x\N{REPLACEMENT CHARACTER}"),
        ("[" + "9" * 4_001 + "]", "/0"),
        ("-" + "9" * 5_000, ""),
    ],
)
def test_what_would_not_come_back_is_refused_with_its_place(raw: str, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        values.parse(raw.encode())
    assert pointers(refusal) == [pointer]


def test_all_faults_of_a_document_are_named_in_their_order() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        values.parse('{"a": NaN, "b": [1, 1e999], "c": {"d": 1, "d": 2}}')
    assert pointers(refusal) == ["/a", "/b/1", "/c/d"]


@pytest.mark.parametrize("digits", ["9" * 4_000, "-" + "9" * 4_000, "9007199254740993", "12345678901234567890123"])
def test_integers_are_exact(digits: str) -> None:
    assert values.encode(values.parse(digits)) == digits


@pytest.mark.parametrize("raw", ["1.0", "-0.0", "1e-400", "1.7976931348623157e308", "5e-324", "0.1"])
def test_doubles_stay_doubles(raw: str) -> None:
    value = values.parse(raw)
    assert isinstance(value, float)
    assert same(values.decode(values.encode(value)), value)


def test_escaped_pairs_and_escaped_backslashes_are_no_lone_surrogates() -> None:
    assert values.parse(r'"\ud83d\ude00"') == "\N{GRINNING FACE}"
    assert values.parse(r'"\\ud800 \\u0000"') == r"\ud800 \u0000"
    assert values.encode(r"\u0000") == r'"\\u0000"'


def test_digits_in_a_string_are_no_number() -> None:
    assert values.parse('"' + "9" * 5_000 + '"') == "9" * 5_000
    assert values.encode("9" * 5_000) == '"' + "9" * 5_000 + '"'


@pytest.mark.parametrize("before", range(76))
def test_a_number_that_is_too_large_is_found_wherever_it_begins(before: int) -> None:
    blank = " " * before
    for digits in ("9" * 4_001, "9" * 309 + ".0", "9" * 300 + "e9"):
        with pytest.raises(InvalidRequest) as refusal:
            values.parse(f'["{blank}", {digits}]')
        assert pointers(refusal) == ["/1"]
    with pytest.raises(InvalidRequest) as refusal:
        values.encode([blank, 10**4_000])
    assert pointers(refusal) == ["/1"]


def test_nesting_is_allowed_to_the_limit() -> None:
    assert values.parse(nested(100)) is not None
    assert values.parse(nested(101), max_depth=101) is not None
    assert values.parse("[" + ",".join(["{}"] * 500) + "]") == [{}] * 500


@pytest.mark.parametrize("inner", ["[", '{"":'])
def test_lists_and_objects_count_together_for_the_nesting(inner: str) -> None:
    deep = "[" * 50 + inner * 51 + "1" + ("}" if inner == '{"":' else "]") * 51 + "]" * 50
    assert values.parse(deep, max_depth=101) is not None
    with pytest.raises(InvalidRequest, match="deeper"):
        values.parse(deep)
    with pytest.raises(InvalidRequest, match="deeper"):
        values.encode(json.loads(deep))


@pytest.mark.parametrize("depth", [101, 500, 100_000])
def test_deeper_nesting_is_refused_with_its_place(depth: int) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        values.parse('{"a": [1, {"b": "]", "c": ' + nested(depth) + "}]}", max_depth=103)
    assert pointers(refusal) == ["/a/1/c" + "/0" * 100]


def test_a_fault_before_a_very_deep_part_does_not_hide_it() -> None:
    with pytest.raises(InvalidRequest, match="deeper"):
        values.parse("[NaN, " + nested(100_000) + "]")


def test_a_value_is_limited_in_bytes_not_characters() -> None:
    assert values.encode("a" * (values.MAX_BYTES - 2))
    with pytest.raises(ValueTooLarge) as refusal:
        values.encode("é" * (values.MAX_BYTES // 2), pointer="/input")
    assert [fault.pointer for fault in refusal.value.faults] == ["/input"]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"a": math.nan}, "/v/a"),
        ([math.inf], "/v/0"),
        ({"a": "\ud800"}, "/v/a"),
        ({"a": "\0"}, "/v/a"),
        ([10**4_000], "/v/0"),
        ([10**5_000], "/v/0"),
        ([{"a": {1, 2}}], "/v/0/a"),
        ({(1, 2): 1}, "/v/(1, 2)"),
    ],
)
def test_encode_refuses_what_has_no_json_form(value: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        values.encode(value, pointer="/v")
    assert pointers(refusal) == [pointer]


def test_encode_refuses_deep_and_circular_values() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    circle: list[Any] = []
    circle.extend([circle, circle])
    for value in (deep, circle):
        with pytest.raises(InvalidRequest, match="deeper"):
            values.encode(value)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1", "1.0"),
        ("1", "1e0"),
        ("1" + "0" * 22, "1e22"),
        ("0", "-0.0"),
        ("[100]", "[1E2]"),
        ('{"a":1,"b":[2.0]}', '{"b":[2],"a":1.0}'),
    ],
)
def test_equal_values_have_equal_digests(left: str, right: str) -> None:
    assert values.digest(values.parse(left)) == values.digest(values.parse(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1", "true"),
        ("0", "false"),
        ("1", '"1"'),
        ("null", "{}"),
        ("[1,2]", "[2,1]"),
        ("9007199254740993", "9007199254740992.0"),
        ("1.5", "15"),
        ('"é"', '"e\u0301"'),
    ],
)
def test_different_values_have_different_digests(left: str, right: str) -> None:
    assert values.digest(values.parse(left)) != values.digest(values.parse(right))


@given(documents)
def test_the_digest_does_not_depend_on_how_a_value_was_written(value: Any) -> None:
    reordered = json.loads(json.dumps(value, sort_keys=True, indent=1))
    assert values.digest(value) == values.digest(reordered)


@given(documents)
def test_the_digest_of_a_value_is_that_of_its_text(value: Any) -> None:
    parsed = values.parse(json.dumps(value).encode())
    text, digest = values.write(parsed)
    assert (text, digest) == (values.encode(parsed), values.digest_of_text(text))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_long_string_is_written_as_a_short_one(inner: str) -> None:
    value = long(inner)
    text, digest = values.write(value)
    assert text == json.dumps(value, ensure_ascii=False)
    assert digest == values.digest(value) == values.digest_of_text(text)
    assert values.decode(text) == values.parse(text.encode()) == value


def test_each_letter_is_written_and_digested_alike_in_long_and_short_strings() -> None:
    letters = [*map(chr, range(1, 0x101)), "\u2028", "\uffff", "\N{GRINNING FACE}"]
    for value in [value for letter in letters for value in (letter, long(letter), letter + long(""))]:
        text, digest = values.write(value)
        assert text == json.dumps(value, ensure_ascii=False)
        assert digest == hashlib.sha256(json.dumps(value).encode()).digest() == values.digest(value)
        assert values.decode(text) == value


@pytest.mark.parametrize("letter", ["\0", "\ud800"])
def test_a_letter_that_is_not_accepted_is_found_in_a_long_string(letter: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        values.encode(long(letter), pointer="/v")
    assert pointers(refusal) == ["/v"]


@pytest.mark.parametrize(
    "inner", ["", '"', "\\", '\\"', '"\\', "\\\\", '1e400 ["9" [', "1e400", "[{" * 200, "9" * 5_000]
)
@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        ("1e400", ""),
        ("-1E+400", ""),
        ("9" * 4_001, ""),
        ("9" * 5_000, ""),
        (nested(100), "/0" * 99),
        ('{"":' * 100 + "0" + "}" * 100, "/" * 99),
        ('{"b":1,"b":2}', "/b"),
        ("NaN", ""),
        (r'"\ud800"', ""),
    ],
)
def test_what_is_refused_is_found_before_and_behind_a_long_string(inner: str, raw: str, pointer: str) -> None:
    string = json.dumps(long(inner))
    for document, place in ((f'[{string}, "", {raw}]', "/2"), (f'[{raw}, {string}, ""]', "/0")):
        with pytest.raises(InvalidRequest) as refusal:
            values.parse(document.encode())
        assert pointers(refusal) == [place + pointer]


def test_what_is_in_a_long_string_is_no_number_and_no_container() -> None:
    for inner in ("1e400", "9" * 5_000, "[{" * 200, '\\"1e400', '"' * 2_000 + "1e400" + "[" * 200):
        assert values.parse(json.dumps([long(inner), 1]).encode()) == [long(inner), 1]
        assert values.decode(values.encode([long(inner), 1])) == [long(inner), 1]


@given(documents)
def test_what_writes_small_values_quickly_writes_what_the_documented_encoder_does(value: Any) -> None:
    kept = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert values.encoder(ensure_ascii=False)(value) == kept
    assert values.encoder(sort_keys=True)(value) == json.dumps(value, separators=(",", ":"), sort_keys=True)


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": object()}, {(): 1}, object()])
def test_what_writes_small_values_quickly_refuses_what_the_documented_encoder_does(value: Any) -> None:
    refusals = []
    for write in (json.JSONEncoder(allow_nan=False).encode, values.encoder(allow_nan=False)):
        with pytest.raises((ValueError, TypeError)) as refusal:
            write(value)
        refusals.append((refusal.type, str(refusal.value)))
    assert refusals[0] == refusals[1]
