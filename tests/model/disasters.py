"""Rules for what goes wrong: kills, freezes, lost answers, and what is done meanwhile."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.model import looks
from tests.model.asgi import Answer, Exchange, answered
from tests.model.asking import Asking
from tests.model.contract import CREATED, NOT_FOUND, OK, Workflow
from tests.model.contract import Answer as Due
from tests.model.draws import JOURNAL, letters, local, losses, middles, sides
from tests.model.replicas import Replica, Trap
from tests.model.side_by_side import SOON
from tests.support.waiting import eventually_sync

Middle = tuple[Sequence[Any], str, int]
mostly = st.sampled_from([True, True, False])


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
    @rule(letter=letters, middle=middles, side=sides, itself=mostly)
    def command_and_kill(self, letter: str, middle: Middle, side: int, itself: bool) -> None:
        """Kill a replica somewhere in the middle of a command, which was sent to itself or to the other."""
        self._count(1)
        (command, place, nth), replica = middle, self.replicas[side]
        workflow = self.subject(letter, side)
        trap = replica.kill_at(place, nth)
        self._insist_on_a_command(workflow, command, side if itself else 1 - side)
        self._until_struck(trap, workflow)
        self.saw(trap, f"killed at {place}")
        if replica.up:
            replica.kill()
        self.bury()
        self.settle(anyway=True)

    def _insist_on_a_command(self, workflow: Workflow, command: Sequence[Any], side: int) -> None:
        """Whether the answer is the first or a repeated one: it was sent once."""
        key, body = f"key-{len(workflow.messages)}", {"topic": "do", "payload": self.own(command)}
        assert self.model.send(workflow.id, "do", body["payload"], key) == CREATED
        headers = {"Idempotency-Key": key}
        answer = self.insist(side, "POST", f"/workflows/{workflow.id}/messages", body, headers=headers)
        assert answer.status in (200, 201), answer

    def _until_struck(self, trap: Trap, workflow: Workflow) -> None:
        """Wait for a trap, for as long as there may be anything to pass by."""
        witness = next(replica for replica in self.replicas if replica.up and replica.trap is not trap)

        def over() -> bool:
            if trap.struck:
                return True
            seen = witness.run(looks.look(witness, workflow))
            return looks.difference(workflow, seen) is None

        eventually_sync(over, SOON)

    @precondition(both_up)
    @rule(letter=letters, loss=losses, side=sides, itself=mostly)
    def command_and_lose_an_answer(self, letter: str, loss: tuple[Any, str], side: int, itself: bool) -> None:
        """A connection to the database breaks: before a commit it never arrived, after it nobody was told."""
        (command, place), replica = loss, self.replicas[side]
        self.faults += 1
        workflow = self.subject(letter, side)
        trap = replica.lose_at(place, 1)
        self._insist_on_a_command(workflow, command, side if itself else 1 - side)
        self.settle()
        self.saw(trap, f"answer lost at {place}")
        replica.trap = None

    def go_on_after(self, replica: Replica, dies: bool) -> None:
        """Take the trap away; whoever was to die in it and did not, dies now."""
        replica.trap = None
        if dies and replica.up:
            replica.kill()
            self.bury()
        self.settle(anyway=True)

    @precondition(both_up)
    @rule(name=st.sampled_from(["puppet", "count"]), side=sides, place=st.sampled_from(JOURNAL), dies=st.booleans())
    def start_and_get_no_answer(self, name: str, side: int, place: str, dies: bool) -> None:
        """The same start is sent again until there is an answer: it is one workflow."""
        id, replica = f"{self.prefix}{next(self.numbers)}", self.replicas[side]
        self.faults += 1
        trap = replica.kill_at(place, 1) if dies else replica.lose_at(place, 1)
        assert self.model.start(id, name, 1) == CREATED
        answer = self.insist(side, "POST", "/workflows", {"id": id, "name": name, "input": 1})
        assert answer.status == 201 or (answer.status == 200 and trap.struck), answer
        self.saw(trap, f"start without an answer at {place}")
        self.go_on_after(replica, dies)

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
        replica, id = self.replicas[side], self.subject(letter, side).id
        self.faults += 1
        if what in ("resume", "delete"):
            self.check(self.via(side).ask("POST", f"/workflows/{id}/cancel"), self.model.cancel(id))
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
        self.saw(trap, f"no answer at {trap.point}")
        self.go_on_after(replica, dies)

    @precondition(both_up)
    @rule(
        letter=letters,
        middle=middles,
        side=sides,
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
        itself=mostly,
        stays=st.booleans(),
    )
    def act_behind_the_back_of_a_frozen_one(
        self, letter: str, middle: Middle, side: int, deeds: Sequence[str], itself: bool, stays: bool
    ) -> None:
        """A replica stands still in the middle of a command; what it meant to write counts only if it is still its own.

        `itself`: the command was sent to the one that stands still. `stays`: it goes on with a later rule, or with
        this one.
        """
        (command, place, nth), frozen = middle, self.replicas[side]
        self.faults += 1
        workflow = self.subject(letter, side)
        id, dies, answers = workflow.id, "declare dead" in deeds, None
        trap = frozen.freeze_at(place, nth)
        if itself:
            answers = self._send_to(frozen, trap, workflow, self.own(command))
        else:
            self.send(id, "do", self.own(command), 1 - side, None)
        self._until_struck(trap, workflow)
        frozen.freeze(unless=trap)
        self.alive[0].end_idle_transactions_of(frozen)
        self.saw(trap, f"frozen at {place}")
        for deed in deeds:
            self._do_to(id, deed, frozen)
        if dies:
            self.settle(anyway=True)
        if not dies:
            frozen.thaw()
        elif not stays:
            self.wake_up(frozen)
        if answers is not None and not frozen.frozen:
            self.check(answered(answers), CREATED)
        self.settle(anyway=True)

    def _send_to(self, frozen: Replica, trap: Trap, workflow: Workflow, command: Sequence[Any]) -> "Future[Answer]":
        """Send a command to one that may stand still before it answers, but not before the message is there."""
        assert self.model.send(workflow.id, "do", command) == CREATED
        target, body = f"/workflows/{workflow.id}/messages", {"topic": "do", "payload": command}
        asked = frozen.begin(Exchange("POST", target, body))
        eventually_sync(lambda: asked.done() or trap.struck)
        found = self.replicas[1 - self.replicas.index(frozen)].ask("GET", f"{target}?limit=1000").json["messages"]
        if len(found) < len(workflow.messages):
            # What it passed was something else's: let it go on, to stand still when all is done.
            eventually_sync(lambda: frozen.frozen)
            frozen.thaw()
            trap.struck = False
        return asked

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
        self.faults += 1
        workflow = self.subject(letter, side)
        self.send(workflow.id, "do", self.own(command), side, None)
        self._cancel_in_the_middle(workflow.id, other)
        self.settle(anyway=True)
