"""The replicas and the contract, side by side: what every rule needs, and the comparison after each."""

import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from tests.model import draws, looks
from tests.model.asgi import NOTHING, Answer, Lost
from tests.model.contract import CREATED, GONE, NOT_FOUND, OK, Contract, Workflow
from tests.model.contract import Answer as Due
from tests.model.puppet import ran
from tests.model.replicas import Replica, Trap
from tests.support.waiting import eventually_sync

SOON = 15.0
"""Seconds in which everything has to come out."""

_numbers = itertools.count(1)


class SideBySide(RuleBasedStateMachine):
    """One example: workflows of its own, on replicas that are there already."""

    struck: ClassVar[Counter[str]] = Counter()
    """What has gone wrong so far, over all examples. A fault counts when it has been seen to strike."""
    most_disasters = 4
    """Of those that cost as much as many other rules."""

    def __init__(self, replicas: tuple[Replica, Replica]) -> None:
        super().__init__()
        self.replicas = replicas
        self.model = Contract()
        self.prefix = f"m{next(_numbers)}-"
        self.disasters = self.faults = 0
        self.settled: dict[str, Any] = {}
        self.numbers = itertools.count(1)
        self.recorded: Counter[tuple[str, int]] = Counter()
        """Steps and transactions of deleted workflows: (id, label)."""
        for replica in replicas:
            if not replica.up:
                replica.start()

    # ---- helpers

    def id(self, letter: str) -> str:
        return self.prefix + letter

    def workflow(self, letter: str) -> Workflow | None:
        return self.model.workflows.get(self.id(letter))

    @property
    def alive(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.up and not replica.frozen]

    def via(self, side: int) -> Replica:
        replica = self.replicas[side]
        return replica if replica in self.alive else self.alive[0]

    def own(self, command: Sequence[Any]) -> list[Any]:
        """A command with this example's ids."""
        verb, *given = command
        if verb in draws.OF_OTHERS:
            given[0] = self.id(given[0])
        return [verb, *given]

    def fits(self, id: str, command: Sequence[Any]) -> bool:
        """Whether the outcome does not depend on who is quicker: what waits in line must concern nobody else."""
        workflow = self.model.workflows.get(id)
        if workflow is None or workflow.terminal:
            return True
        idle = workflow.status == "ACTIVE" and workflow.progress.doing is None
        return idle or command[0] in draws.IN_LINE

    def awaited(self, id: str) -> bool:
        """Whether another workflow waits for what this one will do."""
        waiting = [w.progress.doing for w in self.model.workflows.values() if not w.terminal]
        return any(doing is not None and doing[0] in ("watch", "result") and doing[1] == id for doing in waiting)

    def subject(self, letter: str, side: int) -> Workflow:
        """A puppet that waits for a command and that nobody else waits for; a new one if that is what it takes."""
        workflow = self.workflow(letter)
        idle = workflow is not None and workflow.status == "ACTIVE" and workflow.progress.doing is None
        if workflow is not None and idle and not self.awaited(workflow.id):
            return workflow
        id = f"{self.prefix}{next(self.numbers)}"
        self.check(self.via(side).ask("POST", "/workflows", {"id": id, "name": "puppet"}), CREATED)
        assert self.model.start(id, "puppet", None) == CREATED
        self.settle()
        return self.model.workflows[id]

    def check(self, answer: Answer, expected: Due) -> None:
        seen = (answer.status, answer.code)
        again = {CREATED: OK, GONE: NOT_FOUND}.get(expected) if answer.repeated else None
        assert seen in (expected, again), f"{expected} was due: {answer}"

    def insist(self, side: int, method: str, target: str, body: Any = NOTHING, **more: Any) -> Answer:
        """Ask again as long as there is no answer; of whoever is there."""
        for _ in range(50):
            try:
                answer = self.via(side).ask(method, target, body, **more)
            except Lost:
                self.bury()
            else:
                if answer.status != 503:
                    return answer
        raise AssertionError(f"{method} {target} is refused for ever")

    def saw(self, trap: Trap, what: str) -> None:
        if trap.struck:
            self.struck[what] += 1

    def bury(self) -> None:
        """Whoever was killed is declared dead, and what it ran is taken over."""
        for replica in self.replicas:
            if replica.up and replica.engine.killed.is_set():
                replica.kill()
        for replica in self.alive:
            replica.take_over()

    def declare_dead(self, replica: Replica) -> str:
        """A frozen one: the others are to take it for dead."""
        (other,) = self.alive
        id = replica.engine.executor
        other.run(other.engine.execute("update executors set alive = false where id = %s", id))
        other.take_over()
        return id

    # ---- the comparison

    def settle(self, *, anyway: bool = False) -> None:
        """Wait until all replicas show what the contract says. Unless `anyway`, of what has changed only."""
        for workflow in list(self.model.workflows.values()):
            if anyway or self.settled.get(workflow.id) != workflow.extent:
                self._settled(workflow)
                self.settled[workflow.id] = workflow.extent

    def _settled(self, workflow: Workflow) -> None:
        said: str | None = ""

        def same() -> bool:
            nonlocal said
            # One after the other: what was seen through one must not be gone for the next.
            for replica in self.alive:
                seen = replica.run(looks.look(replica, workflow, wait=True))
                wrong = looks.contradiction(workflow, seen)
                assert wrong is None, f"{workflow.id} through {replica}: {wrong}"
                said = looks.difference(workflow, seen)
                if said is not None:
                    said = f"{workflow.id} through {replica}: {said}"
                    return False
            return True

        eventually_sync(same, SOON, lambda: f"{said}\n{workflow}")

    def pin(self, workflow: Workflow) -> None:
        """Find out how far an ended workflow had got, which must be a place where it could be stopped."""
        seen = self.alive[0].run(looks.look(self.alive[0], Workflow(workflow.id, workflow.name, workflow.input)))
        shown = seen.workflow["status"]
        for progress in workflow.trail:
            candidate = Workflow(workflow.id, workflow.name, workflow.input, tags=workflow.tags, parent=workflow.parent)
            candidate.messages, candidate.progress, candidate.ended = workflow.messages, progress, workflow.ended
            candidate.facts = dict(workflow.facts)
            if looks.contradiction(candidate, seen) is None and looks.difference(candidate, seen) is None:
                workflow.progress = progress
                return
        raise AssertionError(f"{shown} workflow stopped where it could not be: {seen}\n{workflow.trail}")

    # ---- the end

    def teardown(self) -> None:
        for replica in self.replicas:
            replica.trap = None
            replica.thaw()
            if not replica.up:
                replica.start()
        if sys.exc_info()[0] is not None:
            return  # it has failed already
        self.settle(anyway=True)
        self._effects_are_there()
        for id, workflow in list(self.model.workflows.items()):
            if not workflow.terminal:
                self.model.cancel(id)
                assert self.via(0).ask("POST", f"/workflows/{id}/cancel").status == 200
        self.settle()
        self._the_witness_is_content()
        for id in list(self.model.workflows):
            if id in self.model.workflows:
                self.delete_one(id, 1)
        self._nothing_is_left()

    def delete_one(self, id: str, side: int) -> None:
        self.about_to_be_deleted(id)
        expected = self.model.delete(id)
        self.check(self.via(side).ask("DELETE", f"/workflows/{id}"), expected)
        if expected.code is None:
            for replica in self.alive:
                assert replica.ask("GET", f"/workflows/{id}/history").status == 404

    def about_to_be_deleted(self, id: str) -> None:
        """Remember what it did, and have the witness forget it: the id may be used again."""
        if (workflow := self.model.workflows.get(id)) is not None and workflow.terminal:
            self.recorded += _labels(workflow)
            self._the_witness_is_content()
            first = self.alive[0]
            for table in ("writes", "claims"):
                first.run(first.engine.execute(f"delete from audit.{table} where workflow_id = %s", id))

    def _effects_are_there(self) -> None:
        """Of a transaction exactly once; of a step at least once, and no oftener than something went wrong."""
        written = self._rows("select workflow_id, label from ledger where workflow_id like %s")
        recorded = sum((_labels(workflow) for workflow in self.model.workflows.values()), self.recorded)
        ledger = Counter((row["workflow_id"], row["label"]) for row in written)
        transactions = Counter({what: n for what, n in recorded.items() if what[1] >= draws.TRANSACTIONS})
        assert ledger == transactions, f"{ledger} was written, and {transactions} is recorded"
        for what, times in (recorded - transactions).items():
            assert times <= ran[what] <= times * (1 + self.faults), f"{what}: {ran[what]} for {times} records"

    def _nothing_is_left(self) -> None:
        for table in ("workflows", "steps", "events", "messages", "waits", "callbacks"):
            column = "id" if table == "workflows" else "workflow_id"
            left = self._rows(f"select * from {table} where {column} like %s")
            assert not left, f"{table}: {left}"

    def _the_witness_is_content(self) -> None:
        """Who wrote and who owned, by other marks than the engine's own."""
        first = self.alive[0]
        breaches = first.run(first.engine.audit.breaches())
        assert not breaches, "\n".join(breaches)

    def _rows(self, query: str) -> list[dict[str, Any]]:
        """Of this example's."""
        first = self.alive[0]
        return first.run(first.engine.rows(query, f"{self.prefix}%"))


def _labels(workflow: Workflow) -> Counter[tuple[str, int]]:
    calls = [call for call in workflow.progress.calls if call.name in ("perform", "write")]
    return Counter((workflow.id, call.output) for call in calls)
