"""Entity tags of events, `W/"<run>.<position>"`: a condition by tag is a condition by position.

A client that has an event asks for something newer by sending its tag back. The run is that of the
workflow's row: an id that is used again begins a new count, and tags of its former life say nothing.
"""

from __future__ import annotations

import re

_OURS = re.compile(r'(?:W/)?"([0-9a-f]{8})\.(0|[1-9][0-9]{0,15})"')


def tag(run: str, position: int) -> str:
    return f'W/"{run}.{position}"'


def seen(header: str | None) -> dict[str, int]:
    """The positions that an If-None-Match names, by run; those of others and `*` are no condition."""
    positions: dict[str, int] = {}
    for run, position in _OURS.findall(header or ""):
        positions[run] = max(int(position), positions.get(run, 0))
    return positions
