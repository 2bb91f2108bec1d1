"""Two who want something of one workflow at the same time, on two replicas: all pairs of moments, in both orders.

Whoever is stopped keeps what it has locked: the other one waits for it, or goes round it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from app.errors import WorkflowActive, WorkflowFinished, WorkflowNotFound
from app.model import WorkflowId
from tests.enumeration.programs import LEDGER, define, doors
from tests.support import faults
from tests.support.engine import insist
from tests.support.explore import Meeting, Replica, explore, replicas
from tests.support.waiting import eventually

ENGINE = (
    "journal.",
    "executor.before_claim",
    "executor.after_claim",
    "executor.before_wake",
    "executor.after_watchers",
    "executor.after_queue",
    "lookup.before_watch",
    "lookup.after_watch",
    "lookup.after_unread",
)
COMMANDS = ("cancel.", "resume.", "delete.", "end.", "mail.")

Pair = tuple[Replica, Replica]


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[Pair]:
    async with replicas(database_url, "a", "b") as (a, b):
        await a.execute(LEDGER)
        define(a)
        define(b)
        yield a, b


@pytest.fixture(params=[False, True], ids=["one first", "other first"])
def turned(request: pytest.FixtureRequest) -> bool:
    """In which order they are stopped."""
    return bool(request.param)


class Answers:
    """What commands were answered, by name: True, or the refusal."""

    def __init__(self) -> None:
        self._answers: dict[str, Any] = {}

    async def ask(self, name: str, command: Callable[[], Awaitable[Any]]) -> bool:
        try:
            await insist(command)
            self._answers[name] = True
        except (WorkflowFinished, WorkflowNotFound, WorkflowActive) as refusal:
            self._answers[name] = refusal
        return self._answers[name] is True

    def __getitem__(self, name: str) -> Any:
        return self._answers[name]


async def leaves(replica: Replica, id: str) -> None:
    await eventually(lambda: not replica.holds(id), 15, f"{id} stays in the memory of {replica.name}")


async def behind_its_door(replica: Replica, program: str, id: str, input: Any = None) -> None:
    """Start a workflow that stands in its first step."""
    await replica.begin(program, input, id=id)
    await replica.noted("come_in")


async def meets(
    pair: Pair, turned: bool, one: Any, other: Any, *, stops: tuple[str, ...] = (*ENGINE, *COMMANDS), **more: Any
) -> None:
    """`one` happens on the first replica, `other` on the second; turned, the other one is stopped first."""
    a, b = pair
    first, second = ((b, other), (a, one)) if turned else ((a, one), (b, other))
    meeting = Meeting(first=first[1], second=second[1], stops=stops, **more)
    tally = await explore(first[0], second[0], meeting)
    print(tally)
    # A busy machine comes by at fewer moments, and an idle one at many more.
    assert tally.schedules >= 5
    assert len(tally.pairs) >= 3


async def test_after_a_cancel_nothing_is_written_and_what_had_ended_is_not_cancelled(pair: Pair, turned: bool):
    a, b = pair
    answers = Answers()

    async def runs(id: str) -> None:
        doors[id].set()
        await leaves(a, id)

    async def cancels(id: str) -> None:
        await answers.ask("cancel", lambda: b.cancel(id))

    async def check(id: str) -> None:
        history = await faults.history(a, id)
        assert (answers["cancel"] is True) == (history.status == "CANCELLED"), answers["cancel"]
        if history.status != "CANCELLED":
            assert (history.status, history.output, history.events) == ("SUCCEEDED", 2, [("status", "reserved")])

    await meets(pair, turned, runs, cancels, check=check, prepare=lambda id: behind_its_door(a, "guarded", id))


async def test_a_workflow_that_is_cancelled_and_resumed_is_run_by_one(pair: Pair, turned: bool):
    a, b = pair
    answers = Answers()

    async def runs(id: str) -> None:
        doors[id].set()
        await leaves(a, id)

    async def cancels_and_resumes(id: str) -> None:
        if await answers.ask("cancel", lambda: b.cancel(id)):
            await answers.ask("resume", lambda: b.resume(id))
        doors[id].set()
        await b.ended(id)

    async def check(id: str) -> None:
        history = await faults.history(a, id)
        assert (history.status, history.output, history.events) == ("SUCCEEDED", 2, [("status", "reserved")])

    await meets(
        pair, turned, runs, cancels_and_resumes, check=check, prepare=lambda id: behind_its_door(a, "guarded", id)
    )


async def test_a_message_is_received_once_whether_it_meets_a_run_or_a_park(pair: Pair, turned: bool):
    a, b = pair

    async def receives(id: str) -> None:
        doors[id].set()
        await leaves(a, id)

    async def sends(id: str) -> None:
        await insist(lambda: b.send(id, "answer", 42, key="once"))
        await insist(lambda: b.send(id, "answer", 42, key="once"))

    async def check(id: str) -> None:
        await b.ended(id)
        assert await b.output(id) == 42
        assert (await faults.history(b, id)).messages == [(1, "answer", 42, 2)]

    await meets(pair, turned, receives, sends, check=check, prepare=lambda id: behind_its_door(a, "receiver", id))


@pytest.mark.parametrize(("waiter", "answer"), [("watcher", ["reserved"]), ("mourner", "never")])
async def test_whoever_waits_for_another_workflow_hears_of_its_event_and_of_its_end(
    pair: Pair, turned: bool, waiter: str, answer: Any
):
    a, b = pair

    async def publishes(id: str) -> None:
        doors[id].set()
        await a.ended(id)

    async def waits(id: str) -> None:
        await b.begin(waiter, id, id=f"{id}-waiter")
        await leaves(b, f"{id}-waiter")

    async def check(id: str) -> None:
        await b.ended(f"{id}-waiter")
        assert await b.output(f"{id}-waiter") == answer

    await meets(pair, turned, publishes, waits, check=check, prepare=lambda id: behind_its_door(a, "guarded", id))


async def test_of_two_who_claim_one_has_it(pair: Pair):
    a, b = pair
    answered: list[str] = []

    async def queued(id: str) -> None:
        await a.begin("order", id=id, delay=3600)
        await a.execute("update workflows set wake_at = now() where id = %s", id)

    async def claims(replica: Replica, id: str) -> None:
        replica.runtime._executor.poke()
        await replica.ended(id)
        answered.append(id)

    async def check(id: str) -> None:
        assert sorted(a.ran + b.ran) == ["debit", "reserve", "ship"]

    meeting = Meeting(
        first=lambda id: claims(a, id), second=lambda id: claims(b, id), check=check, prepare=queued, stops=ENGINE
    )
    tally = await explore(a, b, meeting)
    print(tally)
    assert tally.schedules >= 20


async def test_what_is_deleted_is_not_resumed_and_what_is_resumed_is_whole(pair: Pair, turned: bool):
    a, b = pair
    answers = Answers()

    async def cancelled(id: str) -> None:
        await behind_its_door(a, "guarded", id)
        await a.cancel(id)
        await leaves(a, id)
        doors[id].set()

    async def deletes(id: str) -> None:
        await answers.ask("delete", lambda: a.runtime.commands.delete(WorkflowId(id)))

    async def resumes(id: str) -> None:
        if await answers.ask("resume", lambda: b.resume(id)):
            await b.ended(id)

    async def check(id: str) -> None:
        if answers["delete"] is True:
            assert await a.status(id) is None
        else:
            assert answers["resume"] is True
            assert await a.output(id) == 2

    await meets(pair, turned, deletes, resumes, check=check, prepare=cancelled)


async def test_a_workflow_ends_in_time_or_out_of_it_and_not_both(pair: Pair, turned: bool):
    a, b = pair

    async def late(id: str) -> None:
        await behind_its_door(a, "guarded", id)
        await a.execute("update workflows set deadline = now() where id = %s", id)

    async def runs(id: str) -> None:
        doors[id].set()
        await leaves(a, id)

    async def looks_at_the_clock(id: str) -> None:
        await b.runtime._deadlines.tick()

    async def check(id: str) -> None:
        history = await faults.history(a, id)
        if history.status == "SUCCEEDED":
            assert (history.output, history.events) == (2, [("status", "reserved")])
        else:
            assert history.status == "TIMED_OUT"

    await meets(pair, turned, runs, looks_at_the_clock, check=check, prepare=late)


async def test_no_child_survives_the_cancel_of_its_parent(pair: Pair, turned: bool):
    a, b = pair

    async def bears(id: str) -> None:
        doors[id].set()
        await leaves(a, id)

    async def cancels(id: str) -> None:
        await insist(lambda: b.cancel(id))

    async def check(id: str) -> None:
        assert await b.status(id) == "CANCELLED"
        assert await b.status(f"{id}-child") in (None, "CANCELLED")
        for replica in (a, b):
            await leaves(replica, f"{id}-child")

    await meets(
        pair,
        turned,
        bears,
        cancels,
        check=check,
        prepare=lambda id: behind_its_door(a, "parent", id),
        stops=("journal.", "cancel."),
    )


async def test_one_id_is_started_once(pair: Pair):
    a, b = pair
    created: list[bool] = []

    async def starts(replica: Replica, id: str) -> None:
        await insist(lambda: replica.begin("order", id=id))
        await replica.ended(id)
        created.append(True)

    async def check(id: str) -> None:
        assert sorted(a.ran + b.ran) == ["debit", "reserve", "ship"]

    meeting = Meeting(first=lambda id: starts(a, id), second=lambda id: starts(b, id), check=check, stops=ENGINE)
    tally = await explore(a, b, meeting)
    print(tally)
    assert tally.schedules >= 20
