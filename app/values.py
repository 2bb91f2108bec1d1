"""Strict JSON: what is accepted here can be stored, and comes back equal.

Python's own parser lets through what no database and no other language takes back: NaN, numbers beyond
a double, lone surrogates, U+0000, members given twice. Here they are refused, with the place as a JSON
Pointer. The usual path is the C parser with two hooks; the walk that names places (`check`) runs only
over a document that looks wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from app import lifting
from app.errors import MOST_FAULTS, Fault, InvalidRequest, MalformedJson, ValueTooLarge
from app.model import JsonText

MAX_BYTES = 1_048_576
MAX_DEPTH = 100
MAX_DIGITS = 4_000

_BEYOND = 10**MAX_DIGITS
_SMALL = 2**63
_TOO_DEEP = f"nesting is deeper than {MAX_DEPTH} levels"
_UNSAFE = re.compile("[\0\ud800-\udfff]")
_INTEGRAL_DOUBLE = re.compile(r"\.0(?!\d)")
_NUMBERS = bytes.maketrans(b"123456789E", b"000000000e")
_MANY = 300
_SAMPLES = 4
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_STRUCTURE = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|([\[\]{},])', re.DOTALL)


def parse(raw: bytes | str, *, max_depth: int = MAX_DEPTH) -> Any:
    """Read one JSON document. An envelope around a value raises `max_depth` by its own levels."""
    if isinstance(raw, bytes) and len(raw) > lifting.LONG and (lifted := lifting.lift(raw)) is not None:
        try:
            return lifted.put_back(_read_plain(lifted.rest, max_depth))
        except (ValueError, RecursionError, _Refused):
            # There is something to be said of it, and of the document as it came.
            pass
    return _read(raw, max_depth)


def _read_plain(raw: bytes, max_depth: int) -> Any:
    """The value of a document of which there is nothing to be said; of another, an error that says nothing either."""
    if b"\\u" in raw or _has_tricky_numbers(raw):
        raise _Refused
    value = _usual.decode(raw.decode())
    if _may_be_deeper(raw, max_depth) and _deeper_than(value, max_depth):
        raise _Refused
    return value


def _read(raw: bytes | str, max_depth: int) -> Any:
    try:
        text, plain = (raw, raw.encode("utf-8", "replace")) if isinstance(raw, str) else (raw.decode("utf-8"), raw)
    except UnicodeDecodeError as error:
        raise MalformedJson(f"The body is not JSON: byte {error.start} is not UTF-8.") from None
    decoder = _careful if _has_tricky_numbers(plain) else _usual
    # To look for one character takes a fiftieth of the time that it takes to look for two.
    suspect = "\\" in text and ("\\u0000" in text or "\\ud" in text or "\\uD" in text)
    suspect = suspect or (isinstance(raw, str) and not raw.isascii())
    try:
        try:
            value = decoder.decode(text)
        except _Refused:
            value, suspect = _lenient.decode(text), True
    except json.JSONDecodeError as error:
        raise MalformedJson(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise InvalidRequest(Fault(_TOO_DEEP, _deep_place(text, max_depth))) from None
    if suspect or (_may_be_deeper(plain, max_depth) and _deeper_than(value, max_depth)):
        faults = check(value, max_depth=max_depth)
        if faults:
            raise InvalidRequest(*faults)
    return value


def encode(value: Any, *, pointer: str = "") -> JsonText:
    """The compact text of a plain JSON value: members in their order, integers exact, doubles as doubles."""
    long = type(value) is str and len(value) > lifting.LONG
    try:
        if long:
            # It writes the same as the other in a quarter of the time.
            plain = to_json(value)
            text = plain.decode()
        else:
            text = _compact(value)
            plain = text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        # UnicodeEncodeError, a lone surrogate, is a ValueError too.
        faults = check(value, pointer=pointer) or [Fault(f"this has no JSON form ({type(error).__name__})", pointer)]
        raise InvalidRequest(*faults) from None
    if (size := len(plain)) > MAX_BYTES:
        raise ValueTooLarge(Fault(f"a value may have {MAX_BYTES} bytes as compact JSON, this one has {size}", pointer))
    if long:
        suspect = "\0" in value
    else:
        suspect = ("\\" in text and "\\u0000" in text) or (size > MAX_DIGITS and _has_many_digits(plain))
        suspect = suspect or (_may_be_deeper(plain, MAX_DEPTH) and _deeper_than(value, MAX_DEPTH))
    if suspect:
        faults = check(value, pointer=pointer)
        if faults:
            raise InvalidRequest(*faults)
    return JsonText(text)


quote: Callable[[str], str] = json.JSONEncoder(ensure_ascii=False).encode
"""The JSON text of a name or a key, which was checked when it came in."""


def decode(text: str) -> Any:
    """Read text that `encode` made."""
    if text[0] == text[-1] == '"':
        if "\\" not in text:
            return text[1:-1]
        if len(text) > lifting.LONG:
            return from_json(text)
    return json.loads(text)


def digest(value: Any) -> bytes:
    """Equal JSON values have equal digests: members in any order, numbers by their value, true is not 1."""
    canonical = _sorted(value)
    if _may_have_integral_doubles(canonical):
        canonical = _sorted(_numbers_by_value(value))
    return hashlib.sha256(canonical.encode()).digest()


def digest_of_text(text: str | None) -> bytes:
    """The digest of what `encode` made; nothing is as null."""
    if text is None:
        return digest(None)
    return hashlib.sha256(text.encode()).digest() if _is_canonical(text) else digest(decode(text))


def write(value: Any, *, pointer: str = "") -> tuple[JsonText, bytes]:
    """The text of a value that `parse` gave, and its digest."""
    text = encode(value, pointer=pointer)
    return text, digest_of_text(text) if _is_canonical(text) else digest(value)


def check(value: Any, *, pointer: str = "", max_depth: int = MAX_DEPTH) -> list[Fault]:
    """Name each place that JSON, or the store, would not give back as it is; as many as are told."""
    search = _Search(pointer, max_depth)
    with contextlib.suppress(_Enough):
        search.look(value)
    return search.faults


class _Refused(Exception):
    """Internal: the document has something that is not accepted; `check` will find where."""


class _Enough(Exception):
    """Internal: as many faults are known as are told, or one behind which it is not worth looking."""


class _Ambiguous(dict[str, Any]):
    """An object that had a member twice."""

    twice: Sequence[str] = ()
    """The names of such members, as many as are told."""


class _Endless(int):
    """Stands for an integer of too many digits, which is not worth the time to read it."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused
    return members


def _ambiguous_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    ambiguous = _Ambiguous(members)
    ambiguous.twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1][:MOST_FAULTS]
    return ambiguous


def _refuse(_: str) -> Any:
    raise _Refused


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Refused
    return number


def _bounded(digits: str) -> int:
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        raise _Refused
    return int(digits)


def _any_integer(digits: str) -> int:
    return _Endless() if len(digits.removeprefix("-")) > MAX_DIGITS else int(digits)


# A hook for numbers costs a call for each of them, so only texts in which one could be too large get it.
_usual = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_refuse)
_careful = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_refuse, parse_float=_finite, parse_int=_bounded)
_lenient = json.JSONDecoder(object_pairs_hook=_ambiguous_members, parse_int=_any_integer)


def encoder(**options: Any) -> Callable[[Any], str]:
    """`json.JSONEncoder(**options).encode`, for many small values, that are no circles.

    That one makes what works for it, in C, anew for each value, which takes longer than to write a small one. Python
    does not document how that is made; a test holds both to be alike.
    """
    usual = json.JSONEncoder(check_circular=False, separators=(",", ":"), **options)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return usual.encode
    quoted = json.encoder.encode_basestring_ascii if usual.ensure_ascii else json.encoder.encode_basestring
    parts = make(
        None,
        usual.default,
        quoted,
        None,
        usual.key_separator,
        usual.item_separator,
        usual.sort_keys,
        usual.skipkeys,
        usual.allow_nan,
    )
    return lambda value: quoted(value) if isinstance(value, str) else "".join(parts(value, 0))


_compact = encoder(ensure_ascii=False, allow_nan=False)
_sorted = encoder(sort_keys=True)


def _is_canonical(text: str) -> bool:
    """Whether it is what is digested: a string that is written alike with and without what is not ASCII."""
    return text[0] == '"' and text.isascii() and "\x7f" not in text


def _has_tricky_numbers(plain: bytes) -> bool:
    """Whether a number may be beyond a double, or have too many digits: one with an exponent, or a long one."""
    return b"0e" in plain.translate(_NUMBERS) or _has_many_digits(plain)


def _has_many_digits(plain: bytes) -> bool:
    """Whether so many stand in a row that it may be a number with too many. Of such a row a sample hits a few."""
    if len(plain) < _MANY:
        return False
    if b"0" * _SAMPLES not in plain[:: _MANY // _SAMPLES].translate(_NUMBERS):
        return False
    return b"0" * _MANY in plain.translate(_NUMBERS)


def _may_be_deeper(plain: bytes, limit: int) -> bool:
    """False is certain: it takes away the innermost brackets as often as there may be levels."""
    # Each level takes two.
    if len(plain) <= 2 * limit or not _more_brackets_than(plain, limit):
        return False
    brackets = plain.translate(_BRACKETS, _NO_BRACKETS).replace(b'""', b"")
    if b'"' in brackets or b'\\"' in plain:
        return True  # some are within strings, and prove nothing
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _more_brackets_than(plain: bytes, limit: int) -> bool:
    """Whether it opens more of them. In a long text it takes longer to count all than to look for the first few."""
    if len(plain) < lifting.LONG:
        return plain.count(b"[") + plain.count(b"{") > limit
    opened = 0
    for bracket in (b"[", b"{"):
        place = plain.find(bracket)
        while place >= 0:
            opened += 1
            if opened > limit:
                return True
            place = plain.find(bracket, place + 1)
    return False


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, (dict, list, tuple)) else []
    for _ in range(limit):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list, tuple))
        ]
        if not level:
            return False
    return bool(level)


class _Search:
    """The walk through a document that looks wrong, in its order. Pointers are made for faults alone."""

    def __init__(self, pointer: str, max_depth: int) -> None:
        self.faults: list[Fault] = []
        self._pointer, self._max_depth = pointer, max_depth
        self._path: list[Any] = []

    def look(self, item: Any) -> None:
        message = _complaint(item)
        if message:
            self._tell(message)
        elif isinstance(item, dict):
            self._look_into_members(item)
        elif isinstance(item, (list, tuple)):
            self._look_into(enumerate(item))

    def _look_into_members(self, item: dict[Any, Any]) -> None:
        for name in item.twice if isinstance(item, _Ambiguous) else ():
            self._tell("this member is given twice", name)
        for name in item:
            if not (type(name) is str and name.isascii() and "\0" not in name):
                message = _unsafe_text(name) if isinstance(name, str) else "the name of a member must be a string"
                if message:
                    self._tell(f"in the name of a member: {message}", name)
        self._look_into(item.items())

    def _look_into(self, children: Iterable[tuple[Any, Any]]) -> None:
        path = self._path
        if len(path) == self._max_depth:
            self._tell(_TOO_DEEP)
            raise _Enough
        shallow = len(path) + 1 < self._max_depth
        for step, child in children:
            # Most of a large document is one of these; what is left to `look` costs ten times as much.
            kind = type(child)
            if kind is int:
                fine = -_SMALL < child < _SMALL
            elif kind is str:
                fine = child.isascii() and "\0" not in child
            elif kind is list or kind is dict:
                fine = shallow and not child
            else:
                fine = child is None or kind is bool
            if not fine:
                path.append(step)
                self.look(child)
                path.pop()

    def _tell(self, message: str, *more: Any) -> None:
        steps = "".join(f"/{pointer_step(str(step))}" for step in (*self._path, *more))
        self.faults.append(Fault(message, self._pointer + steps))
        if len(self.faults) == MOST_FAULTS:
            raise _Enough


def _complaint(item: Any) -> str | None:
    if isinstance(item, str):
        return _unsafe_text(item)
    if item is None or isinstance(item, (bool, list, tuple, dict)):
        return None
    if isinstance(item, int):
        too_long = isinstance(item, _Endless) or not -_BEYOND < item < _BEYOND
        return f"an integer may have {MAX_DIGITS} digits" if too_long else None
    if isinstance(item, float):
        return None if math.isfinite(item) else "a number must be finite and within the range of a double"
    return f"{type(item).__name__} has no JSON form"


def _unsafe_text(text: str) -> str | None:
    unsafe = _UNSAFE.search(text)
    if unsafe is None:
        return None
    return "U+0000 is not accepted" if unsafe[0] == "\0" else "a surrogate without its partner is not accepted"


def pointer_step(name: str) -> str:
    """One step of a JSON Pointer, fit to be sent: no character that is itself refused, no endless name."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", name[:200]).replace("~", "~0").replace("/", "~1")


def _deep_place(text: str, limit: int) -> str:
    """The pointer of the first container beyond the limit, in a text too deep for the parser's own stack."""
    path: list[str | int] = []
    name = ""
    for token in _STRUCTURE.finditer(text):
        string, colon, mark = token.groups()
        if colon:
            name = pointer_step(json.loads(string))
            path[-1:] = [name]
        elif mark == ",":
            if path and isinstance(path[-1], int):
                path[-1] += 1
        elif mark in ("[", "{"):
            if len(path) == limit:
                break
            path.append(0 if mark == "[" else "")
        elif mark and path:
            path.pop()
    return "".join(f"/{step}" for step in path)


def _may_have_integral_doubles(canonical: str) -> bool:
    """Whether there is a double that is a whole number. Not sought at once: an alternative is sought letter by letter,
    a beginning as such, and a single character faster still."""
    whole = "." in canonical and _INTEGRAL_DOUBLE.search(canonical) is not None
    return whole or ("+" in canonical and "e+" in canonical)


def _numbers_by_value(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {name: _numbers_by_value(child) for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers_by_value(child) for child in value]
    return value
