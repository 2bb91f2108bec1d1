"""The campaign's checks find what is wrong: histories that are whole, and the same with one thing changed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos import checks, sweep
from tests.chaos.checks import Child, Facts, Judge
from tests.chaos.client import Look
from tests.chaos.history import Event, History, Message, Step, Write
from tests.chaos.program import Fate, Program
from tests.chaos.sweep import Set

Change = Callable[[History], None]

CHILD = [["mark", "c0", 7]]
CHILD_OUTPUT = [["c0", None]]
PROGRAM = Program(
    "w",
    [
        ["step", "c0", 0.1],
        ["transaction", "c1", 5],
        ["receive", "c2", "left"],
        ["receive", "c3", "left"],
        ["stream", "c4", 2],
        ["child", "c5", CHILD],
        ["gather", "c6", [["c6x", 0], ["c6y", 0]]],
        ["race", "c7", [["c7x", 0], ["c7y", 0]]],
        ["echo", "c8", 3],
        ["callback", "c9", "call 0"],
        ["refuse", "c10"],
    ],
    messages=[("left", {"n": 0}), ("left", {"n": 1})],
    callbacks=[("call 0", "yes")],
)
CHILDREN = {"w.c5": Child("SUCCEEDED", CHILD_OUTPUT)}
FACTS = Facts(messages={"key-0": 1, "key-1": 2})


def whole() -> History:
    """A history that is as the program says."""
    steps: list[Step] = []
    events: list[Event] = []
    told: list[list[Any]] = []

    def step(kind: str, output: Any, child_id: str | None = None, error: Any = None) -> int:
        number = len(steps) + 1
        steps.append(Step(number, number, kind, output, error, child_id, float(number)))
        return number

    def event(key: str, value: Any, step: int | None = None) -> None:
        events.append(Event(len(events) + 1, key, value, step, float(len(steps))))

    def tell(label: str, result: Any) -> None:
        event(("red", "green", "blue")[len(told) % 3], [label, result])
        told.append([label, result])

    step("step", ["c0", "t0"])
    tell("c0", ["c0", "t0"])
    step("transaction", ["c1", "t1"])
    tell("c1", ["c1", "t1"])
    first = step("receive", {"n": 0})
    tell("c2", {"n": 0})
    second = step("receive", {"n": 1})
    tell("c3", {"n": 1})
    event("stream", ["c4", 0], step=5)
    event("stream", ["c4", 1], step=5)
    step("step", ["c4", "t4"])
    tell("c4", ["c4", "t4"])
    step("child", None, "w.c5")
    step("get_event", 7)
    step("result", CHILD_OUTPUT)
    tell("c5", [7, CHILD_OUTPUT])
    step("step", ["c6x", "t6x"])
    step("step", ["c6y", "t6y"])
    tell("c6", [["c6x", "t6x"], ["c6y", "t6y"]])
    step("step", ["c7y", "t7y"])
    tell("c7", [["c7y", "t7y"]])
    step("send", None)
    third = step("receive", 3)
    tell("c8", 3)
    step("callback", "…")
    event("callback", "http://127.0.0.1/callbacks/…")
    fourth = step("receive", "yes")
    tell("c9", "yes")
    step("step", None, error={"type": "Fatal"})
    tell("c10", "c10")
    messages = [
        Message(1, "left", {"n": 0}, "key-0", first, 3.0),
        Message(2, "left", {"n": 1}, "key-1", second, 4.0),
        Message(3, "c8", 3, "$step", third, 13.0),
        Message(4, "call 0", "yes", "$callback", fourth, 15.0),
    ]
    labels = {"c0": "t0", "c4": "t4", "c6x": "t6x", "c6y": "t6y", "c7y": "t7y", "c7x": "lost"}
    executions = {label: [token] for label, token in labels.items()}
    writes = [Write("c1", 5, "t1")]
    return History(
        "w", "chaos", "SUCCEEDED", PROGRAM.commands, told, None, 1, None, 4, steps, events, messages, writes, executions
    )


def wrong(history: History, program: Program = PROGRAM, facts: Facts = FACTS) -> list[str]:
    return list(Judge(history, program, facts, CHILDREN).wrong())


def test_a_whole_history_is_found_whole():
    assert wrong(whole()) == []


def lose_the_last_event(h: History) -> None:
    h.events.pop()


def publish_one_twice(h: History) -> None:
    h.events.append(replace(h.events[-1], position=len(h.events) + 1))


def leave_a_gap(h: History) -> None:
    h.events[-1] = replace(h.events[-1], position=len(h.events) + 1)


def swap_two_events(h: History) -> None:
    h.events[0], h.events[1] = replace(h.events[1], position=1), replace(h.events[0], position=2)


def publish_another_value(h: History) -> None:
    h.events[2] = replace(h.events[2], value=["c2", {"n": 1}])


def return_something_else(h: History) -> None:
    h.output = h.output[:-1]


def change_a_record(h: History) -> None:
    h.steps[0] = replace(h.steps[0], output=["c0", "another"])


def record_a_step_twice(h: History) -> None:
    h.steps.append(replace(h.steps[0], seq=99, done=99))


def complete_two_at_once(h: History) -> None:
    h.steps[1] = replace(h.steps[1], done=h.steps[0].done)


def execute_a_step_once_more(h: History) -> None:
    h.executions["c0"] = ["t0", "again"]


def record_what_was_not_executed(h: History) -> None:
    h.executions["c0"] = ["another"]


def write_twice(h: History) -> None:
    h.writes.append(h.writes[0])


def write_and_record_nothing(h: History) -> None:
    h.writes.append(Write("c1", 5, "of a transaction without a record"))


def lose_the_write(h: History) -> None:
    h.writes.clear()


def write_to_another_counter(h: History) -> None:
    h.writes[0] = replace(h.writes[0], counter=6)


def lose_a_message(h: History) -> None:
    del h.messages[1]


def accept_a_message_twice(h: History) -> None:
    h.messages.append(Message(5, "left", {"n": 1}, "other", None, 4.0))
    h.inbox = 5


def leave_a_message_unread(h: History) -> None:
    h.messages[1] = replace(h.messages[1], received_seq=None)


def receive_a_message_twice(h: History) -> None:
    h.messages[1] = replace(h.messages[1], received_seq=h.messages[0].received_seq)


def receive_in_another_order(h: History) -> None:
    first, second = h.messages[:2]
    h.messages[0] = replace(first, received_seq=second.received_seq)
    h.messages[1] = replace(second, received_seq=first.received_seq)


def receive_without_a_record(h: History) -> None:
    h.steps[2] = replace(h.steps[2], kind="step", output=None)


def move_an_acknowledged_message(h: History) -> None:
    h.messages[0], h.messages[1] = replace(h.messages[1], position=1), replace(h.messages[0], position=2)


def lose_part_of_a_stream(h: History) -> None:
    del h.events[5]
    h.events[:] = [replace(event, position=number) for number, event in enumerate(h.events, 1)]


def lose_a_stream(h: History) -> None:
    h.events[:] = [event for event in h.events if event.step is None]
    h.events[:] = [replace(event, position=number) for number, event in enumerate(h.events, 1)]


def repeat_a_stream(h: History) -> None:
    h.events[5:5] = [h.events[5], h.events[4]]
    h.events[:] = [replace(event, position=number) for number, event in enumerate(h.events, 1)]


def start_another_child(h: History) -> None:
    h.steps[5] = replace(h.steps[5], child_id="w.c99")


def hear_something_else_of_the_child(h: History) -> None:
    h.events[7] = replace(h.events[7], value=["c5", [7, []]])
    h.output[5] = ["c5", [7, []]]


def let_somebody_win_who_did_not_run(h: History) -> None:
    h.events[9] = replace(h.events[9], value=["c7", [["c7x", "lost"]]])
    h.output[7] = ["c7", [["c7x", "lost"]]]


def fail(h: History) -> None:
    h.status, h.output, h.error = "FAILED", None, {"type": "OperationalError", "message": "the connection is lost"}


def be_given_up(h: History) -> None:
    h.status, h.output = "DEAD", None


def never_end(h: History) -> None:
    h.status, h.output = "RUNNING", None


def take_a_number_for_a_truth_value(h: History) -> None:
    h.messages[0] = replace(h.messages[0], payload=True)
    h.events[10] = replace(h.events[10], value=["c8", True])


def change_the_input(h: History) -> None:
    h.input = h.input[:-1]


CHANGES = [
    value for name, value in list(globals().items()) if getattr(value, "__annotations__", {}).get("h") is History
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_one_thing_changed_is_found(change: Change):
    history = whole()
    change(history)
    assert wrong(history)


def test_a_step_may_be_executed_once_for_each_life():
    history = whole()
    execute_a_step_once_more(history)
    assert wrong(replace(history, attempts=2)) == []
    assert wrong(history, facts=replace(FACTS, cancelled_at=0.0, resumed_at=0.1, resumes=1)) == []


def test_a_stream_may_come_again_for_each_life():
    history = whole()
    repeat_a_stream(history)
    assert wrong(replace(history, attempts=2)) == []


def test_nothing_may_be_committed_between_a_cancel_and_its_resume():
    program = replace(PROGRAM, fate=Fate.RESUMED)
    assert wrong(whole(), program, replace(FACTS, cancelled_at=4.1, resumed_at=4.9)) == []
    assert wrong(whole(), program, replace(FACTS, cancelled_at=4.1, resumed_at=5.1))


def cancelled() -> History:
    history = whole()
    history.steps, history.events, history.messages = history.steps[:2], history.events[:2], history.messages[:2]
    history.messages = [replace(message, received_seq=None) for message in history.messages]
    history.status, history.output, history.inbox = "CANCELLED", None, 2
    return history


def test_a_cancelled_workflow_has_a_beginning_of_its_program():
    program = replace(PROGRAM, fate=Fate.CANCELLED)
    assert wrong(cancelled(), program, replace(FACTS, cancelled_at=5.0)) == []
    assert wrong(cancelled(), program, replace(FACTS, cancelled_at=1.5))
    history = cancelled()
    history.events[1] = replace(history.events[1], key="blue")
    assert wrong(history, program, replace(FACTS, cancelled_at=5.0))


def test_what_cleans_up_is_there_exactly_when_its_workflow_was_cancelled():
    program = replace(PROGRAM, fate=Fate.GUARDED)
    with_cleanup = {**CHILDREN, "w:abort": Child("SUCCEEDED", ["cleanup", "t"])}
    assert list(Judge(cancelled(), program, FACTS, with_cleanup).wrong()) == []
    assert list(Judge(cancelled(), program, FACTS, CHILDREN).wrong())
    assert list(Judge(whole(), program, FACTS, with_cleanup).wrong())
    assert list(Judge(whole(), program, FACTS, CHILDREN).wrong()) == []


def test_a_cleanup_is_made_once():
    cleanup = History("w:abort", "chaos_cleanup", "SUCCEEDED", output=["cleanup", "t"])
    cleanup.writes = [Write("cleanup", 0, "t")]
    assert list(checks.wrong_with_cleanup(cleanup)) == []
    cleanup.writes *= 2
    assert list(checks.wrong_with_cleanup(cleanup))
    assert list(checks.wrong_with_cleanup(replace(cleanup, writes=[Write("cleanup", 0, "another")])))
    assert list(checks.wrong_with_cleanup(replace(cleanup, writes=[], status="FAILED")))


def test_a_program_that_is_to_fail_fails_with_its_own_error():
    program = Program("w", [["event", "c0", 1], ["fail", "c1"]], Fate.FAILS)
    history = History("w", "chaos", "FAILED", program.commands, None, {"type": "RuntimeError", "message": "c1"})
    history.events = [Event(1, "red", ["c0", 1], None, 1.0)]
    assert wrong(history, program, Facts()) == []
    assert wrong(replace(history, error={"type": "OperationalError", "message": "c1"}), program, Facts())
    assert wrong(replace(history, status="SUCCEEDED", output=[["c0", 1]]), program, Facts())


# ---- readers


def look(began: float, ended: float, position: int, **more: Any) -> Look:
    given = {"after": 0, "timeout": 0.0, "pending": False, "drained": False, **more}
    return Look("w", "red", "a", began, ended, position=position, **given)


def test_positions_that_rise_are_as_they_should_be():
    looks = [look(10, 11, 1), look(11, 12, 2), look(11.5, 12.5, 1), look(13, 14, 2)]
    assert list(sweep.wrong(looks, [Set(9.5, 1), Set(11.4, 2)])) == []


def test_a_position_that_falls_is_found():
    assert list(sweep.wrong([look(10, 11, 2), look(11.1, 12, 1)], []))


def test_a_read_of_less_than_was_committed_before_is_found():
    assert list(sweep.wrong([look(10, 11, 1)], [Set(5, 1), Set(6, 2)]))


def test_a_reader_that_was_not_woken_is_found():
    waited = look(10, 15, 0, timeout=5.0, pending=True)
    assert list(sweep.wrong([waited], [Set(14.9, 1)])) == []
    assert list(sweep.wrong([waited], [Set(12, 1)]))


def test_an_answer_before_its_time_is_found_unless_its_replica_drained():
    early = look(10, 12, 0, timeout=5.0, pending=True)
    assert list(sweep.wrong([early], []))
    assert list(sweep.wrong([replace(early, drained=True)], [])) == []


def test_the_time_from_a_commit_to_its_reader_is_told_of_those_who_waited():
    looks = [look(10, 12.5, 1, timeout=5.0), look(13, 13.1, 1), look(10, 15, 0, timeout=5.0, pending=True)]
    assert [seconds for _, seconds in sweep.lateness(looks, [Set(12, 1)])] == [0.5]
