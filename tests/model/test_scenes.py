"""What Hypothesis has come upon and is worth being played each time."""

from collections.abc import Callable, Iterator

import pytest

from tests.model.machine import Machine
from tests.model.replicas import Replica

BEHIND = ["cancel", "resume"], ["cancel", "resume", "declare dead"], ["declare dead", "cancel", "resume"]


@pytest.fixture
def machine(pair: tuple[Replica, Replica]) -> Iterator[Machine]:
    """What it does is compared at its end once more."""
    machine = Machine(pair)
    yield machine
    machine.teardown()


def play(machine: Machine, scene: Callable[[], None]) -> None:
    """Until its fault has struck: the workflow may be with the other replica, or be about to be parked."""
    before = machine.struck.total()
    for _ in range(20):
        scene()
        if machine.struck.total() > before:
            return
    raise AssertionError("the fault never strikes")


@pytest.mark.parametrize("deeds", BEHIND, ids=", ".join)
@pytest.mark.parametrize("place", ["transaction.before_commit", "transaction.after_commit"])
def test_a_transaction_of_a_frozen_replica_counts_once_for_whoever_goes_on(
    machine: Machine, place: str, deeds: list[str]
) -> None:
    """Committed before the freeze it is not repeated, otherwise it is done elsewhere."""
    machine.begin(one=1, other=1)
    play(
        machine,
        lambda: machine.act_behind_the_back_of_a_frozen_one(
            letter="a", middle=(["write", 1_500], place, 1), side=1, deeds=deeds, itself=True, stays=False
        ),
    )


@pytest.mark.parametrize("place", ["journal.before_flush", "journal.after_flush", "step.after_call"])
def test_what_a_frozen_replica_had_in_hand_is_not_written_once_it_is_dead(machine: Machine, place: str) -> None:
    machine.begin(one=1, other=1)
    play(
        machine,
        lambda: machine.act_behind_the_back_of_a_frozen_one(
            letter="a", middle=(["both", 1, 2], place, 1), side=1, deeds=["declare dead"], itself=True, stays=False
        ),
    )


def test_an_id_that_is_used_again_gets_nothing_of_its_former_life(machine: Machine) -> None:
    """Also when the process that ran it does not know yet that it was deleted."""
    machine.begin(one=1, other=1)
    play(
        machine,
        lambda: machine.act_behind_the_back_of_a_frozen_one(
            letter="a",
            middle=(["step", 3], "journal.before_flush", 1),
            side=1,
            deeds=["cancel", "delete", "start"],
            itself=True,
            stays=False,
        ),
    )


@pytest.mark.parametrize("place", ["journal.before_flush", "journal.after_flush", "transaction.after_commit"])
def test_a_command_is_carried_out_once_though_an_answer_of_the_database_was_lost(machine: Machine, place: str) -> None:
    machine.begin(one=1, other=1)
    play(
        machine,
        lambda: machine.command_and_lose_an_answer(letter="a", loss=(["write", 1_700], place), side=1, itself=True),
    )
