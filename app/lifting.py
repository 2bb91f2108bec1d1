"""Long strings of a JSON document, lifted out of it and read apart.

Most of a large document is often one such string. By itself it is read in a third of the time, and what is left of the
document is so short that nothing which is looked for in it takes any.
"""

from __future__ import annotations

import os
from typing import Any, Final

from pydantic_core import from_json

LONG: Final = 4_096
"""Bytes from which a string is worth it."""
REST: Final = 65_536
"""Bytes that may be left; with more, to put the strings back is more work than was saved."""
_QUOTES: Final = 1_000
_RUN: Final = 64
_MARK: Final = "".join(chr(ord("g") + number % 16) for number in os.urandom(32))
"""How what stands for a string begins: nobody outside can write it, and it looks like no number."""


class Lifted:
    """What is left, with a short mark for each of the strings. It may be no JSON."""

    def __init__(self, rest: bytes, strings: dict[str, str]) -> None:
        self.rest, self._strings = rest, strings

    def put_back(self, value: Any) -> Any:
        """The value with its strings. Raises ValueError if one was the name of a member."""
        value = self._with_strings(value)
        if self._strings:
            raise ValueError("a long string is no value")
        return value

    def _with_strings(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._strings.pop(value, value)
        if isinstance(value, dict):
            for name, child in value.items():
                value[name] = self._with_strings(child)
        elif isinstance(value, list):
            value[:] = map(self._with_strings, value)
        return value


def lift(document: bytes) -> Lifted | None:
    """None: it has no long strings, or too much else, or one that is not as it should be."""
    pieces: list[bytes] = []
    strings: dict[str, str] = {}
    behind = left = quotes = 0
    begin = document.find(b'"')
    while begin >= 0:
        end = begin
        while True:
            end, quotes = document.find(b'"', end + 1), quotes + 1
            if end < 0 or quotes > _QUOTES:
                return None
            run = document[max(begin + 1, end - _RUN) : end]
            backslashes = len(run) - len(run.rstrip(b"\\"))
            if backslashes == _RUN:
                return None
            if backslashes % 2 == 0:
                break
        if end - begin > LONG:
            text = _read(document[begin : end + 1])
            if text is None:
                return None
            mark = f"{_MARK}{len(strings)}"
            strings[mark] = text
            pieces += (document[behind:begin], f'"{mark}"'.encode())
            left += begin - behind
            behind = end + 1
        begin = document.find(b'"', end + 1)
    pieces.append(document[behind:])
    return Lifted(b"".join(pieces), strings) if strings and left + len(pieces[-1]) <= REST else None


def _read(string: bytes) -> str | None:
    try:
        text: str = from_json(string)
    except ValueError:
        return None
    return None if "\0" in text else text
