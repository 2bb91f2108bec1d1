"""Ids that nobody can guess, made of randomness that is asked of the system for many of them at once."""

from __future__ import annotations

import os
import time
from typing import Final

_MANY: Final = 4_096
"""Bytes: to ask for so many takes not much longer than to ask for a few."""


class _Random:
    """The system's random bytes, each given once."""

    def __init__(self) -> None:
        self._bytes, self._next = b"", 0

    def take(self, count: int) -> bytes:
        if self._next + count > len(self._bytes):
            self._bytes, self._next = os.urandom(_MANY), 0
        begin, self._next = self._next, self._next + count
        return self._bytes[begin : self._next]

    def forget(self) -> None:
        """What a parent process has left, its child must not give as well."""
        self._bytes = b""


_random = _Random()
os.register_at_fork(after_in_child=_random.forget)


def uuid4() -> str:
    """A UUID of nothing but randomness (RFC 9562, version 4)."""
    digits = _random.take(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def uuid7() -> str:
    """A UUID that begins with the time in milliseconds (RFC 9562, version 7), so that inserts go to one end."""
    stamp, digits = f"{time.time_ns() // 1_000_000:012x}", _random.take(10).hex()
    return f"{stamp[:8]}-{stamp[8:]}-7{digits[:3]}-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"


_VARIANT: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
