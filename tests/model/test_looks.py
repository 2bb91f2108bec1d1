"""The comparison notices whatever is not as it should be: a model that agrees with everything shows nothing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.model.contract import Contract, Workflow
from tests.model.looks import Look, contradiction, difference

ID = "w"
NOW = "2030-01-01T00:00:00.000000Z"
LATER = "2030-01-01T00:00:01.000000Z"


@pytest.fixture
def workflow() -> Workflow:
    contract = Contract()
    contract.start(ID, "puppet", {"n": 1})
    contract.send(ID, "do", ["publish", "k", 1])
    contract.send(ID, "do", ["step", 5])
    contract.send(ID, "x", None)
    return contract.workflows[ID]


def faithful(workflow: Workflow) -> Look:
    """What a service shows that is as far as the contract."""
    progress = workflow.progress
    shown: dict[str, Any] = {
        "id": ID,
        "name": "puppet",
        "input": {"n": 1},
        "tags": {},
        "parent_id": None,
        "version": "1",
    }
    shown |= {"queue": None, "forked_from": None, "created_at": NOW, "started_at": NOW, "completed_at": None}
    shown |= {"status": "WAITING", "output": None, "error": None, "attempts": 1}
    events = [
        {"position": n, "key": event.key, "value": event.value, "set_at": NOW}
        for n, event in enumerate(progress.log, 1)
    ]
    steps = [
        {"seq": n, "kind": call.kind, "name": call.name, "output": call.output, "error": None, "child_id": None}
        for n, call in enumerate(progress.calls, 1)
    ]
    messages = [
        {"position": n, "id": str(n), "topic": m.topic, "payload": m.payload, "sent_at": NOW, "event_position": 0}
        | {"received_at": NOW if n in progress.received else None}
        for n, m in enumerate(workflow.messages, 1)
    ]
    board = sorted(events, key=lambda event: event["key"])
    return Look(shown, {"events": events}, {"steps": steps}, {"messages": messages}, {"events": board})


def test_what_is_as_it_should_be_is_no_complaint(workflow: Workflow) -> None:
    seen = faithful(workflow)
    assert contradiction(workflow, seen) is None
    assert difference(workflow, seen) is None


@pytest.mark.parametrize(
    "tamper",
    [
        lambda seen: seen.workflow.update(input={"n": 1.0}),
        lambda seen: seen.workflow.update(created_at=LATER),
        lambda seen: seen.workflow.update(attempts=0),
        lambda seen: seen.history["events"].pop(),
        lambda seen: seen.history["events"].append({**seen.history["events"][-1], "position": 4}),
        lambda seen: seen.history["events"][0].update(value=True),
        lambda seen: seen.history["events"][0].update(value=None),
        lambda seen: seen.history["events"][1].update(position=3),
        lambda seen: seen.history["events"][1].update(set_at=LATER),
        lambda seen: seen.steps["steps"].append({**seen.steps["steps"][-1], "seq": 4}),
        lambda seen: seen.steps["steps"][2].update(output=6),
        lambda seen: seen.steps["steps"][2].update(seq=7),
        lambda seen: seen.messages["messages"].append({**seen.messages["messages"][-1], "position": 4}),
        lambda seen: seen.messages["messages"][2].update(payload=0),
        lambda seen: seen.messages["messages"][0].update(received_at=None),
        lambda seen: seen.board["events"][1].update(value="another"),
    ],
)
def test_what_could_never_be_is_a_contradiction(workflow: Workflow, tamper: Callable[[Look], Any]) -> None:
    seen = faithful(workflow)
    assert contradiction(workflow, seen) is None
    tamper(seen := copy.deepcopy(seen))
    assert contradiction(workflow, seen) is not None


@pytest.mark.parametrize(
    "tamper",
    [
        lambda seen: seen.workflow.update(status="SUCCEEDED"),
        lambda seen: seen.workflow.update(output=1),
        lambda seen: seen.workflow.update(completed_at=NOW),
        lambda seen: seen.history["events"].pop(),
        lambda seen: seen.steps["steps"].pop(),
        lambda seen: seen.messages["messages"].pop(),
        lambda seen: seen.messages["messages"][0].update(received_at=None),
        lambda seen: seen.board["events"].pop(),
    ],
)
def test_what_is_not_there_yet_is_a_difference(workflow: Workflow, tamper: Callable[[Look], Any]) -> None:
    tamper(seen := faithful(workflow))
    assert difference(workflow, seen) is not None
