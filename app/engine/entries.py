"""What goes into a flush of the journal: the entries of workflows that are in memory, and workflows to be started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from app.errors import MilepostError
from app.model import JsonText, WorkflowId

BIG = 32_768
"""Bytes of records from which a workflow takes the big lane, and of a value that stands beside its row."""


class Lane(StrEnum):
    FAST = "fast"
    SLOW = "slow"
    BIG = "big"


class Apart(str):
    """The text of a row without its end. One large value of it goes to the database beside it: to take that out of the
    row would cost more there than to store it."""

    __slots__ = ("value",)
    value: JsonText


def complete(text: str, member: str, value: JsonText | None) -> str:
    """A row from its text without the end, and a value that may be large."""
    if value is None:
        return text + "}"
    if len(value) <= BIG:
        return f'{text},"{member}":{value}}}'
    divided = Apart(text)
    divided.value = value
    return divided


def weight(row: str) -> int:
    """Characters of a row."""
    return len(row) + (len(row.value) if isinstance(row, Apart) else 0)


class Entry:
    """What one workflow has recorded since its last entry. Rows are JSON objects as text."""

    __slots__ = (
        "again",
        "callbacks",
        "error",
        "events",
        "fertile",
        "fin",
        "id",
        "output",
        "rare",
        "received",
        "rows",
        "seen",
        "serial",
        "sets",
        "size",
        "starts",
        "steps",
        "waited",
        "waits",
        "wake_at",
        "writer",
    )

    def __init__(self, writer: Writer, serial: int, *, fertile: bool = False) -> None:
        self.writer, self.id, self.serial, self.fertile = writer, writer.id, serial, fertile
        self.steps: list[str] = []
        self.events: list[str] = []
        self.sets: dict[str, tuple[int, JsonText]] = {}
        """By key: the position and the value of its newest set."""
        self.starts: list[Birth] = []
        self.rare = False
        """Whether there is any of the next four, which most entries have none of."""
        self.received: list[tuple[int, int]] = []
        """(position, seq) of messages and the calls that consumed them."""
        self.callbacks: list[str] = []
        self.waits: dict[int, str] = {}
        """By seq: how long which call waits. The same seq is never in `waited` too: one statement can't do both."""
        self.waited: set[int] = set()
        self.fin: str | None = None
        self.seen: int | None = None
        self.output: JsonText | None = None
        self.error: JsonText | None = None
        self.wake_at: str | None = None
        self.rows, self.size = 1, 0
        self.again = False
        """Whether it may have been committed already, without an answer."""

    @property
    def ends(self) -> bool:
        """Whether the workflow has ended with it."""
        return self.fin is not None and self.fin != "WAITING"

    def add(self, rows: list[str], row: str) -> None:
        rows.append(row)
        self.rows += 1
        self.size += weight(row)


def _nobody(_: Any) -> None:
    """Nobody is to be told."""


@dataclass(slots=True, eq=False)
class Birth:
    """A workflow to be inserted: its row as JSON text, and who wants to know whether it was.

    The outcome is the row of the answer (its `at` is the time of the start), or None: the id was taken already.
    """

    id: WorkflowId
    row: str
    future: asyncio.Future[Any]
    """What its caller waits for, who may leave before."""
    settled: Callable[[Any], None] = _nobody
    """Is told the outcome at once, whether or not the caller is still there; None also when it was refused."""
    sent: bool = False
    again: bool = False
    over: bool = False
    """It has its outcome; one that was not sent never will be."""

    def tell(self, row: Any) -> None:
        if self._ends(row) and not self.future.done():
            self.future.set_result(row)

    def refuse(self, reason: BaseException) -> None:
        if self._ends(None) and not self.future.done():
            self.future.set_exception(reason)

    def give_up(self, reason: BaseException) -> None:
        """Its caller is sent off. What was sent may be committed all the same."""
        if not self.future.done():
            self.future.set_exception(reason)
        if not self.sent and self._ends(None):
            self.row = ""

    def _ends(self, row: Any) -> bool:
        if self.over:
            return False
        self.over = True
        self.settled(row)
        return True


class Writer(Protocol):
    """A workflow in memory, as the journal sees it."""

    id: WorkflowId
    token: str
    generation: int
    lane: Lane

    def take(self) -> Entry | None:
        """Close the open entry and hand it over."""

    def committed(self, entry: Entry, *, moved: bool) -> None:
        """An entry is on disk; `moved`: so is its change of status."""

    def fenced(self) -> None:
        """The workflow is not this process's any more; nothing of the entry was written."""

    def refused(self, reason: MilepostError) -> None:
        """The database will never take this entry; nothing of it was written."""
