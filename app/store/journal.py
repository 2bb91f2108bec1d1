"""The statement behind the journal, put together from the blocks that a batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from psycopg.types.json import Json

from app.model import ExecutorId
from app.store import db, statements

_BLOCKS = statements.load("journal")
_LARGE = "%(large)b::json[]"
"""In binary: as text each quote of a value would have to be escaped, and read again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one flush, as JSON arrays in text; `ids` are those of the entries.

    Values in `large` stand beside their rows, which count them from 1.
    """

    ids: list[str]
    entries: str
    starts: str | None
    steps: str
    events: str
    rarities: Rarities | None
    large: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rarities:
    """What most batches have none of. `positions` and `seqs` are those that `received` and `waited` name."""

    received: str
    callbacks: str
    waits: str
    waited: str
    positions: list[int]
    seqs: list[int]


async def flush(line: db.Line, executor: ExecutorId, batch: Batch, *, skip: bool, again: bool) -> Sequence[Any]:
    """Commit a batch. `skip`: leave out rows that somebody holds; `again`: it may have been committed already.

    Returns a row for each entry found (id, mine, watched, moved) and for each start that is this one's (started).
    """
    parts = (bool(batch.ids), batch.starts is not None, batch.rarities is not None)
    statement = _statement(*parts, skip, again, large=bool(batch.large))
    params: dict[str, Any] = {
        "executor": executor,
        "ids": batch.ids,
        "entries": batch.entries,
        "starts": batch.starts,
        "steps": batch.steps,
        "events": batch.events,
    }
    if batch.large:
        params["large"] = [Json(text, dumps=str) for text in batch.large]
    if (rarities := batch.rarities) is not None:
        params |= {
            "received": rarities.received,
            "callbacks": rarities.callbacks,
            "waits": rarities.waits,
            "waited": rarities.waited,
            "positions": rarities.positions,
            "seqs": rarities.seqs,
        }
    return await line.rows(statement, params)


@cache
def _statement(entries: bool, starts: bool, rarities: bool, skip: bool, again: bool, *, large: bool = False) -> str:
    names = ["entries"] * entries + ["starts"] * starts
    if entries:
        names += ["records"] + ["rarities"] * rarities + ["moves"]
    answers = [_BLOCKS["answer"]] * entries + [_BLOCKS["births"]] * starts
    text = "with " + ", ".join(_code(name) for name in names) + "\n" + "\nunion all\n".join(answers)
    return (
        text.replace("{large}", _LARGE if large else "null::json[]")
        .replace("{skip}", "skip locked" if skip else "")
        .replace("{again}", "on conflict do nothing" if again else "")
        .replace("{fence}", _code("fence") if entries else "false")
    )


def _code(name: str) -> str:
    """A block without the comment above it, which may have braces in it."""
    return "\n".join(line for line in _BLOCKS[name].splitlines() if not line.startswith("--"))
