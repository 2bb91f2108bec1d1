"""The statement behind the journal, in its variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from app.model import ExecutorId
from app.store import db, statements

_FLUSH = statements.load("journal")["flush"]


def _variant(*, skip: bool, again: bool) -> str:
    return _FLUSH.replace("{skip}", "skip locked" if skip else "").replace(
        "{again}", "on conflict do nothing" if again else ""
    )


_VARIANTS = {(skip, again): _variant(skip=skip, again=again) for skip in (True, False) for again in (True, False)}


class Batch(NamedTuple):
    """The rows of one flush, each list as JSON text, ready to be sent."""

    entries: str
    starts: str
    steps: str
    events: str
    received: str
    callbacks: str
    waits: str
    waited: str


async def flush(line: db.Line, executor: ExecutorId, batch: Batch, *, skip: bool, again: bool) -> Sequence[Any]:
    """Commit a batch. `skip`: leave out rows that somebody holds; `again`: it may have been committed already.

    Returns a row for each entry found (id, mine, watched, moved) and for each start that is this one's (started).
    """
    return await line.rows(_VARIANTS[skip, again], {"executor": executor, **batch._asdict()})
