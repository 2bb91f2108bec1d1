"""Rules for what goes wrong: kills, freezes, lost answers, and what is done meanwhile."""

from collections.abc import Sequence
from typing import Any

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.model import looks
from tests.model.asking import Asking
from tests.model.contract import CREATED, NOT_FOUND, OK
from tests.model.contract import Answer as Due
from tests.model.draws import JOURNAL, PLACES, letters, local, sides
from tests.model.replicas import Replica, Trap
from tests.model.side_by_side import SOON
from tests.support.waiting import eventually_sync


class Disasters(Asking):
    def both_up(self) -> bool:
        return len(self.alive) == 2

    def disaster(self) -> bool:
        """Now and then."""
        return self.both_up() and self.disasters < self.most_disasters

    def _count(self, disasters: int) -> None:
        self.disasters += disasters
        self.faults += disasters

    @precondition(disaster)
    @rule(side=sides)
    def kill(self, side: int) -> None:
        self._count(1)
        self.replicas[side].kill()
        self.bury()
        self.settle(anyway=True)

    @precondition(lambda self: not self.both_up())
    @rule()
    def revive(self) -> None:
        for replica in self.replicas:
            if replica.frozen:
                self.wake_up(replica)
            elif not replica.up:
                replica.start()
        self.settle(anyway=True)

    def wake_up(self, replica: Replica) -> None:
        """A frozen one goes on; it was declared dead meanwhile, and becomes somebody else."""
        before = replica.engine.executor
        replica.thaw()
        eventually_sync(lambda: replica.engine.executor != before, SOON)

    @precondition(disaster)
    @rule(side=sides)
    def restart(self, side: int) -> None:
        self._count(1)
        self.replicas[side].restart()
        self.settle(anyway=True)

    @precondition(disaster)
    @rule()
    def lose_everything_but_the_database(self) -> None:
        self._count(2)
        for replica in self.replicas:
            replica.kill()
        for replica in self.replicas:
            replica.start()
        self.bury()
        self.settle(anyway=True)

    @precondition(disaster)
    @rule(letter=letters, command=local, side=sides, place=st.sampled_from(PLACES), nth=st.integers(1, 2))
    def command_and_kill(self, letter: str, command: Sequence[Any], side: int, place: str, nth: int) -> None:
        """Kill a replica somewhere in the middle of a command."""
        self._count(1)
        if self.fits(self.id(letter), command):
            trap = self.replicas[side].kill_at(place, nth)
            self.send(self.id(letter), "do", self.own(command), 1 - side, None)
            self._until_struck(trap, letter)
            event(f"killed at {place}" if trap.struck else "not killed")
        self.replicas[side].kill()
        self.bury()
        self.settle(anyway=True)

    def _until_struck(self, trap: Trap, letter: str) -> None:
        """Wait for a trap, for as long as there may be anything to pass by."""
        workflow = self.workflow(letter)
        witness = next(r for r in self.replicas if r.trap is not trap)

        def over() -> bool:
            if trap.struck or workflow is None:
                return True
            seen = witness.run(looks.look(witness, workflow))
            return looks.difference(workflow, seen) is None

        eventually_sync(over, SOON)

    @precondition(both_up)
    @rule(
        letter=letters,
        command=local,
        trapped=sides,
        side=sides,
        place=st.sampled_from([*JOURNAL, "transaction.before_commit", "transaction.after_commit", "mail.after_commit"]),
        key=st.sampled_from(["three", "four"]),
    )
    def command_and_lose_an_answer(
        self, letter: str, command: Sequence[Any], trapped: int, side: int, place: str, key: str
    ) -> None:
        """A connection to the database breaks: before a commit it never arrived, after it nobody was told."""
        id = self.id(letter)
        if not self.fits(id, command):
            return
        self.faults += 1
        trap = self.replicas[trapped].lose_at(place, 1)
        body = {"topic": "do", "payload": self.own(command)}
        expected = self.model.send(id, "do", body["payload"], key)
        answer = self.insist(side, "POST", f"/workflows/{id}/messages", body, headers={"Idempotency-Key": key})
        if expected == CREATED and trap.struck:
            assert answer.status in (200, 201), answer
            event(f"answer lost at {place}")
        else:
            self.check(answer, expected)
        self.settle(anyway=True)
        self.replicas[trapped].trap = None

    @precondition(both_up)
    @rule(
        letter=letters,
        name=st.sampled_from(["puppet", "count"]),
        side=sides,
        place=st.sampled_from(JOURNAL),
        dies=st.booleans(),
    )
    def start_and_get_no_answer(self, letter: str, name: str, side: int, place: str, dies: bool) -> None:
        """The same start is sent again until there is an answer: it is one workflow."""
        id, replica = self.id(letter), self.replicas[side]
        self.faults += 1
        trap = replica.kill_at(place, 1) if dies else replica.lose_at(place, 1)
        expected = self.model.start(id, name, 1)
        answer = self.insist(side, "POST", "/workflows", {"id": id, "name": name, "input": 1})
        if expected == CREATED and trap.struck:
            assert answer.status in (200, 201), answer
            event(f"start without an answer at {place}")
        else:
            self.check(answer, expected)
        replica.trap = None
        if dies and replica.up:
            replica.kill()
            self.bury()
        self.settle(anyway=True)

    @precondition(both_up)
    @rule(
        letter=letters,
        what=st.sampled_from(["cancel", "resume", "delete", "mail"]),
        when=st.sampled_from(["before", "after"]),
        side=sides,
        dies=st.booleans(),
    )
    def ask_and_get_no_answer(self, letter: str, what: str, when: str, side: int, dies: bool) -> None:
        """Asked again, it is answered as if it had been asked once, or as what is there by then."""
        id, replica = self.id(letter), self.replicas[side]
        self.faults += 1
        place = f"{what}.{when}_commit"
        if when == "after" and what != "mail" and not dies:
            place = "database.after_commit"
        trap = replica.kill_at(place, 1) if dies else replica.lose_at(place, 1)
        if what == "mail":
            body, key = {"topic": "x", "payload": when}, f"{what}-{when}"
            expected = self.model.send(id, "x", when, key)
            answer = self.insist(side, "POST", f"/workflows/{id}/messages", body, headers={"Idempotency-Key": key})
            repeated = OK
        elif what == "delete":
            self.about_to_be_deleted(id)
            expected, repeated = self.model.delete(id), NOT_FOUND
            answer = self.insist(side, "DELETE", f"/workflows/{id}")
        else:
            expected = self.model.cancel(id) if what == "cancel" else self.model.resume(id)
            repeated = expected
            answer = self.insist(side, "POST", f"/workflows/{id}/{what}")
        seen = (answer.status, answer.code)
        assert seen == expected or (trap.struck and not expected.code and seen == repeated), (expected, answer)
        event(f"no answer at {trap.point}" if trap.struck else "an answer after all")
        replica.trap = None
        if dies and replica.up:
            replica.kill()
            self.bury()
        self.settle(anyway=True)

    @precondition(both_up)
    @rule(
        letter=letters,
        command=local,
        side=sides,
        place=st.sampled_from(PLACES),
        nth=st.integers(1, 2),
        deeds=st.sampled_from(
            [
                ["declare dead"],
                ["cancel"],
                ["cancel", "declare dead"],
                ["cancel", "resume"],
                ["cancel", "resume", "declare dead"],
                ["declare dead", "cancel", "resume"],
                ["cancel", "delete"],
                ["cancel", "delete", "start"],
            ]
        ),
        stays=st.booleans(),
    )
    def act_behind_the_back_of_a_frozen_one(
        self,
        letter: str,
        command: Sequence[Any],
        side: int,
        place: str,
        nth: int,
        deeds: Sequence[str],
        stays: bool,
    ) -> None:
        """A replica stands still in the middle of a command; what it meant to write counts only if it is still its own.

        `stays`: it goes on with a later rule, or with this one.
        """
        id, frozen = self.id(letter), self.replicas[side]
        workflow, dies = self.model.workflows.get(id), "declare dead" in deeds
        self.faults += 1
        if workflow is not None and not workflow.terminal and self.fits(id, command) and not self.awaited(id):
            trap = frozen.freeze_at(place, nth)
            self.send(id, "do", self.own(command), 1 - side, None)
            self._until_struck(trap, letter)
            frozen.freeze(unless=trap)
            self.alive[0].end_idle_transactions_of(frozen)
            event(f"frozen at {place}" if trap.struck else "not frozen in the middle")
            for deed in deeds:
                self._do_to(id, deed, frozen)
        elif dies:
            frozen.freeze()
            self.declare_dead(frozen)
        if dies:
            self.settle(anyway=True)
        if not dies:
            frozen.thaw()
        elif not stays:
            self.wake_up(frozen)
        self.settle(anyway=True)

    def _do_to(self, id: str, deed: str, frozen: Replica) -> None:
        side = 1 - self.replicas.index(frozen)
        if deed == "declare dead":
            self.declare_dead(frozen)
        elif deed == "cancel":
            self._cancel_in_the_middle(id, side)
        elif deed == "resume":
            self.check(self.via(side).ask("POST", f"/workflows/{id}/resume"), self.model.resume(id))
        elif deed == "delete":
            self.delete_one(id, side)
        else:
            expected = self.model.start(id, "puppet", None)
            self.check(self.via(side).ask("POST", "/workflows", {"id": id, "name": "puppet"}), expected)

    def _cancel_in_the_middle(self, id: str, side: int) -> None:
        """How far it had got is told by what is there when it is cancelled."""
        workflow = self.model.workflows[id]
        answer = self.via(side).ask("POST", f"/workflows/{id}/cancel")
        if answer.code is None:
            assert answer.status == 200
            trail = workflow.trail
            workflow.progress = next(progress for progress in trail if progress.status is None)
            assert self.model.cancel(id) == OK
            workflow.trail = trail
        else:
            self.check(answer, Due(409, "workflow-finished"))
        self.pin(workflow)

    @precondition(both_up)
    @rule(letter=letters, command=local, side=sides, other=sides)
    def cancel_in_the_middle(self, letter: str, command: Sequence[Any], side: int, other: int) -> None:
        """Whoever comes first: nothing is committed after the answer to a cancel."""
        workflow = self.workflow(letter)
        if workflow is None or workflow.terminal or not self.fits(workflow.id, command) or self.awaited(workflow.id):
            return
        self.faults += 1
        self.send(workflow.id, "do", self.own(command), side, None)
        self._cancel_in_the_middle(workflow.id, other)
        self.settle(anyway=True)
