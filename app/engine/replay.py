"""What a workflow recorded, in the order in which it is to be given back.

Results are given back strictly in the order of their completion, however the calls are arranged in
branches; that, and a loop that runs only when the engine turns it, makes a race come out as it did.
"""

from __future__ import annotations

from collections import Counter, deque

from app.errors import NonDeterministicWorkflow
from app.model import StepKind
from app.store.steps import Recorded, Records, Wait


class History:
    """The records of one workflow. Pure: records in, "give this back" or "run it" out."""

    def __init__(self, records: Records | None = None) -> None:
        """None: it has only just begun."""
        self._by_seq: dict[int, Recorded] = {}
        self._pending: deque[Recorded] = deque()
        self._keys: dict[str, int] = {}
        self._waits: dict[int, Wait] = {}
        self.position = self.done = 0
        if records is not None:
            self._read(records)

    def _read(self, records: Records) -> None:
        self._by_seq = {step.seq: step for step in records.steps}
        self._pending.extend(sorted(records.steps, key=lambda step: step.done))
        self._keys = Counter(records.keys)
        self._waits = {wait.seq: wait for wait in records.waits}
        self.position = records.position
        self.done = self._pending[-1].done if self._pending else 0

    @property
    def exhausted(self) -> bool:
        return not self._pending

    def match(self, seq: int, kind: StepKind, name: str, digest: int) -> Recorded | None:
        """The record at the place of a call; raises NonDeterministicWorkflow when it is of another call."""
        record = self._by_seq.pop(seq, None)  # asked for once
        if record is None:
            return None
        if (record.kind, record.name) != (kind, name):
            raise NonDeterministicWorkflow(
                f"Call {seq} was {record.kind} {record.name!r} when it was recorded, and is {kind} {name!r} now."
                " Register changed code as a new version, beside the old one."
            )
        if record.digest != digest:
            raise NonDeterministicWorkflow(
                f"Call {seq}, {kind} {name!r}, has other arguments now than when it was recorded. Take the time,"
                " random numbers and ids from the context, and register changed code as a new version."
            )
        return record

    def take(self) -> Recorded | None:
        """The next result to give back; None when all have been."""
        return self._pending.popleft() if self._pending else None

    def published(self, key: str) -> bool:
        """Whether a set of this key, outside of steps, is in the log already; each is answered for once."""
        if not self._keys.get(key):
            return False
        self._keys[key] -= 1
        return True

    @property
    def waits(self) -> set[int]:
        """The calls that had not come out when their workflow left memory."""
        return set(self._waits)

    def wait(self, seq: int) -> Wait | None:
        """How far a call that had not come out had got, when it was written down."""
        return self._waits.get(seq)
