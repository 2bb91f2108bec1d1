"""Readers of one key: nobody is told of less than somebody was told before, and nobody waits for what is there.

A key of a workflow is a register whose versions are the positions of its sets. So a sweep over all reads and sets in
the order in which they were completed finds every order that is not linear.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.chaos.client import Look

VISIBLE = 2.0
"""Seconds from the time that a commit bears to when it is seen: the disk is waited for in between."""
SLACK = 0.5
"""Seconds before the end of a wait in which something may be committed and not be in the answer."""
EARLY = 0.01


class Set(NamedTuple):
    committed: float
    position: int


def wrong(looks: Sequence[Look], sets: Sequence[Set]) -> Iterator[str]:
    """What is wrong with the looks at one key."""
    yield from _fallen(looks, sets)
    for look in looks:
        until = look.began + look.timeout
        if look.pending and look.ended < until - EARLY and not look.drained:
            yield f"{_told(look)} was answered {until - look.ended:.3f} s before its time"
        missed = [
            one.position
            for one in sets
            if one.position > look.after and one.committed < min(until, look.ended) - SLACK - VISIBLE
        ]
        if look.pending and missed:
            yield f"{_told(look)} was told that nothing had come, though {missed} had been committed"


def _fallen(looks: Sequence[Look], sets: Sequence[Set]) -> Iterator[str]:
    done = [(look.ended, look.position) for look in looks]
    done += [(one.committed + VISIBLE, one.position) for one in sets]
    done.sort()
    place, highest = 0, 0
    for look in sorted(looks, key=lambda look: look.began):
        while place < len(done) and done[place][0] < look.began:
            highest = max(highest, done[place][1])
            place += 1
        if look.position < highest:
            yield f"{_told(look)} was told of {look.position}, after {highest} had been told or committed"


def lateness(looks: Sequence[Look], sets: Sequence[Set]) -> Iterator[tuple[Look, float]]:
    """For each reader that waited: the seconds from the commit to its answer."""
    for look in looks:
        if not look.pending:
            first = min((one.committed for one in sets if one.position > look.after), default=None)
            if first is not None and look.began < first:
                yield look, look.ended - first


def _told(look: Look) -> str:
    return f"a look at {look.key} of {look.workflow_id} after {look.after} at {look.replica}, {look.timeout:g} s,"
