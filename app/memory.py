"""Memory that is free, but that Python and the C library keep: for values of a mebibyte, which come and go, and given
back to the system when a crowd has left."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import Final

CROWD: Final = 1_000
"""So many are worth the while, when all but a few have left."""
FEW: Final = 8
"""One in so many. What they keep alive is looked through, and everything stands still meanwhile."""
PAUSE: Final = 2.0
"""Seconds that those who leave have for it."""

KEPT: Final = 16 * 1_048_576
"""Bytes that stay with each of the C library's heaps."""
LARGEST: Final = 32 * 1_048_576
"""Bytes, beyond which a piece of memory is the system's own again. glibc takes no more than this."""

# glibc's (malloc_trim(3), mallopt(3), malloc.h). Other libraries do it by themselves, or not at all.
_library = ctypes.CDLL(None)
_trim = getattr(_library, "malloc_trim", None)
_set = getattr(_library, "mallopt", None)
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def keep() -> None:
    """Have what a large value has left taken for the next one. Else the system gets it back each time, and clears it
    page by page before it lends it again: a third of all that is done for a mebibyte."""
    if _trim is not None and _set is not None:
        _set(_MMAP_THRESHOLD, LARGEST)
        _set(_TRIM_THRESHOLD, KEPT)


class Crowd:
    """Counts those who are there: each of them is in it as in a context."""

    def __init__(self) -> None:
        self._count = self._most = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> None:
        self._count += 1
        self._most = max(self._most, self._count)

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._most >= CROWD and self._count <= self._most // FEW and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._give_back)

    def _give_back(self) -> None:
        self._timer, self._most = None, self._count
        # Python's own stores of free objects are emptied by it, and then there is more to give back.
        gc.collect()
        if _trim is not None:
            # It takes some milliseconds for a hundred megabytes.
            asyncio.get_running_loop().run_in_executor(None, _trim, 0)
