"""The verdict on a run: every workflow, every log that a client read, every look, every counter."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.chaos import checks, history, sweep
from tests.chaos.checks import Child, Facts, Judge
from tests.chaos.client import Look
from tests.chaos.history import History
from tests.chaos.load import Load, Reading
from tests.chaos.program import Fate, Program

CHILDREN = "select id, status, output from workflows where parent_id is not null or name = 'chaos_cleanup'"
COUNTERS = "select number, value from counters where value <> 0"
LEFT = {
    "is still active": "select id from workflows where completed_at is null",
    "has waits left": """
        select distinct s.workflow_id
        from waits s
        left join workflows w on w.id = s.workflow_id
        where w.status in ('SUCCEEDED', 'FAILED') or w.id is null
    """,
}


@dataclass
class Verdict:
    judged: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    executions: Counter[int] = field(default_factory=Counter)
    """Of how many recorded steps the body was executed how often."""
    late: list[tuple[Look, float]] = field(default_factory=list)
    violations: dict[str, list[str]] = field(default_factory=dict)
    """By workflow, or by what else it is about."""
    guilty: dict[str, History] = field(default_factory=dict)

    def add(self, whom: str, wrong: Iterator[str] | Sequence[str], found: History | None = None) -> None:
        sentences = list(wrong)
        if sentences:
            self.violations.setdefault(whom, []).extend(sentences)
            if found is not None:
                self.guilty[whom] = found


class Court:
    def __init__(self, url: str, executions: Any, load: Load) -> None:
        self._url, self._load = url, load
        self._executions = history.executions(executions)
        self._verdict = Verdict()
        self._children: dict[str, Child] = {}
        self._messages: dict[str, dict[str, int]] = defaultdict(dict)
        for (id, key), position in load.messages.items():
            self._messages[id][key] = position
        self._readings: dict[str, list[Reading]] = defaultdict(list)
        for reading in load.readings:
            self._readings[reading.workflow_id].append(reading)
        self._looks: dict[tuple[str, str], list[Look]] = defaultdict(list)
        for look in load.records.looks:
            self._looks[look.workflow_id, look.key].append(look)
        self._programs = {**load.asked, **load.programs}
        self._cancelled: set[str] = set()

    def judge(self) -> Verdict:
        verdict, ledger, seen = self._verdict, Counter[int](), set[str]()
        with psycopg.connect(self._url) as connection:
            for what, query in LEFT.items():
                for (id,) in connection.execute(query.encode()):
                    verdict.add(id, [what])
            self._children = {id: Child(status, output) for id, status, output in connection.execute(CHILDREN.encode())}
            counters: Counter[int] = Counter(dict(connection.execute(COUNTERS.encode()).fetchall()))
        for found in history.read(self._url, self._executions):
            seen.add(found.id)
            ledger.update(write.counter for write in found.writes if write.label != "cleanup")
            self._judge(found)
        ledger_of_cleanups = sum(child.status == "SUCCEEDED" for id, child in self._children.items() if ":abort" in id)
        ledger[0] += ledger_of_cleanups
        if +ledger != Counter(counters):
            verdict.add(
                "the counters", [f"are off by {dict((ledger - Counter(counters)) + (Counter(counters) - ledger))}"]
            )
        for id in self._load.programs.keys() - seen:
            verdict.add(id, ["was acknowledged and is not there"])
        return verdict

    def _judge(self, found: History) -> None:
        verdict = self._verdict
        verdict.judged += 1
        verdict.ended[found.status] += 1
        for what in ("steps", "events", "messages", "writes"):
            verdict.rows[what] += len(getattr(found, what))
        verdict.executions.update(len(tokens) for tokens in found.executions.values())
        if found.status in ("CANCELLED", "TIMED_OUT", "DEAD"):
            self._cancelled.add(found.id)
        self._looked_at(found)
        for reading in self._readings.get(found.id, []):
            log = [(event.position, event.key, event.value) for event in found.events]
            if reading.events != log:
                verdict.add(found.id, [f"its {reading.kind} was read as {reading.events}"], found)
        if found.name == "chaos_cleanup":
            parent = self._programs.get(found.id.removesuffix(":abort"))
            if parent is None or parent.fate is not Fate.GUARDED:
                verdict.add(found.id, ["cleans up after nothing"], found)
            verdict.add(found.id, checks.wrong_with_cleanup(found), found)
            return
        program = self._program(found)
        if program is None:
            verdict.add(found.id, ["was started by nobody"], found)
            return
        cancelled_at, resumed_at = self._load.cancels.get(found.id, (None, None))
        facts = Facts(cancelled_at, resumed_at, self._load.resumes[found.id], self._messages.get(found.id))
        judge = Judge(found, program, facts, self._children, orphaned=found.parent_id in self._cancelled)
        verdict.add(found.id, judge.wrong(), found)

    def _program(self, found: History) -> Program | None:
        if found.parent_id is None:
            return self._programs.get(found.id)
        parent = self._programs.get(found.parent_id)
        if parent is None or not found.id.startswith(f"{found.parent_id}."):
            return None
        label = found.id[len(found.parent_id) + 1 :]
        for verb, own, *given in parent.commands:
            if (verb, own) == ("child", label):
                fate = Fate.FAILS if given[0][-1][0] == "fail" else Fate.SUCCEEDS
                return Program(found.id, given[0], fate)
        return None

    def _looked_at(self, found: History) -> None:
        sets: Mapping[str, list[sweep.Set]] = defaultdict(list)
        for event in found.events:
            sets[event.key].append(sweep.Set(event.committed, event.position))
        for key in sets.keys() | {"red", "green", "blue", "callback"}:
            looks = self._looks.get((found.id, key))
            if looks:
                self._verdict.add(found.id, sweep.wrong(looks, sets[key]), found)
                self._verdict.late += sweep.lateness(looks, sets[key])
