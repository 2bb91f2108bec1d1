"""What can be seen of a workflow through one replica, held against the contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.model.contract import ACTIVE, Call, Event, Workflow, agrees
from tests.model.replicas import Replica

PARTS = ("", "/history", "/steps?limit=1000", "/messages?limit=1000", "/events?limit=1000")


@dataclass
class Look:
    """The parts were read at the same time, but not in one snapshot."""

    workflow: Any
    history: Any
    steps: Any
    messages: Any
    board: Any


async def look(replica: Replica, workflow: Workflow, *, wait: bool = False) -> Look:
    id, last = workflow.id, len(workflow.log)
    if wait and last > workflow.facts.get("position", 0):
        # By a long poll, so that what is set is also what wakes.
        await replica.gather(f"/workflows/{id}/history?after={last - 1}&timeout=5")
    answers = await replica.gather(*(f"/workflows/{id}{part}" for part in PARTS))
    for part, answer in zip(PARTS, answers, strict=True):
        assert answer.status == 200, f"{id}{part} through {replica}: {answer}"
    return Look(*(answer.json for answer in answers))


def contradiction(workflow: Workflow, seen: Look) -> str | None:
    """What a look shows that could never be, however far the workflow has got."""
    facts = workflow.facts
    return (
        _envelope(workflow, seen.workflow)
        or _log(facts, workflow.log, seen.history["events"])
        or _calls(workflow.progress.calls, seen.steps["steps"])
        or _messages(workflow, seen.messages["messages"])
        or _pairs(seen.board["events"])
    )


def difference(workflow: Workflow, seen: Look) -> str | None:
    """Where a look is not yet, or not any more, what the contract says."""
    progress, shown = workflow.progress, seen.workflow
    expected = ACTIVE if workflow.status == "ACTIVE" else (workflow.status,)
    if shown["status"] not in expected:
        return f"the status is {shown['status']}, not {workflow.status}"
    output = progress.output if workflow.status == "SUCCEEDED" else None
    if not agrees(output, shown["output"]):
        return f"the output is {shown['output']}, not {output}"
    error = shown["error"] and (shown["error"]["type"], shown["error"]["message"], shown["error"]["step"])
    if workflow.status != "TIMED_OUT" and error != (progress.error if workflow.status == "FAILED" else None):
        return f"the error is {error}, not {progress.error}"
    if (shown["completed_at"] is not None) != workflow.terminal:
        return f"completed_at is {shown['completed_at']}"
    if len(seen.history["events"]) < len(progress.log):
        return f"{len(seen.history['events'])} of {len(progress.log)} events are there"
    if len(seen.steps["steps"]) < len(progress.calls):
        return f"{len(seen.steps['steps'])} of {len(progress.calls)} steps are there"
    messages = seen.messages["messages"]
    received = [m["position"] for m in messages if m["received_at"] is not None]
    if len(messages) != len(workflow.messages) or received != sorted(progress.received):
        return f"of {len(messages)} messages {received} are received, not {sorted(progress.received)}"
    newest = {event.key: n for n, event in enumerate(progress.log, 1)}
    board = {event["key"]: event["position"] for event in seen.board["events"]}
    if list(board.items()) != sorted(newest.items()):
        return f"the board is {board}, not {newest}"
    return None


def _envelope(workflow: Workflow, shown: Any) -> str | None:
    expected = {"id": workflow.id, "name": workflow.name, "input": workflow.input, "tags": workflow.tags}
    expected |= {"parent_id": workflow.parent, "version": "1", "queue": None, "forked_from": None}
    for name, value in expected.items():
        if not agrees(value, shown[name]):
            return f"{name} is {shown[name]!r}, not {value!r}"
    for name in ("created_at", "started_at"):
        if (reason := _remember(workflow.facts, name, shown[name])) is not None:
            return reason
    if shown["attempts"] < workflow.facts.get("attempts", 1):
        return f"attempts has fallen to {shown['attempts']}"
    workflow.facts["attempts"] = shown["attempts"]
    return None


def _remember(facts: dict[str, Any], name: str, value: Any) -> str | None:
    if value is None and name not in facts:
        return None
    if facts.setdefault(name, value) != value:
        return f"{name} was {facts[name]} and is {value}"
    return None


def _log(facts: dict[str, Any], log: Sequence[Event], shown: Sequence[Any]) -> str | None:
    if len(shown) < facts.get("position", 0):
        return f"the log was at {facts['position']} and is at {len(shown)}"
    if len(shown) > len(log):
        return f"{len(shown)} events are there, and only {len(log)} were set: {shown[len(log) :]}"
    for position, event in enumerate(shown, 1):
        expected = log[position - 1]
        if event["position"] != position or event["key"] != expected.key or not agrees(expected.value, event["value"]):
            return f"event {position} is {event}, not {expected}"
        if (reason := _remember(facts, f"event {position} set_at", event["set_at"])) is not None:
            return reason
    times = [event["set_at"] for event in shown]
    if times != sorted(times):
        return f"the log goes back in time: {times}"
    facts["position"] = len(shown)
    return None


def _calls(calls: Sequence[Call], shown: Sequence[Any]) -> str | None:
    if len(shown) > len(calls):
        return f"{len(shown)} steps are there, and only {len(calls)} were made: {shown[len(calls) :]}"
    for step in shown:
        if not 1 <= step["seq"] <= len(calls):
            return f"there is a step {step}"
        call = calls[step["seq"] - 1]
        error = step["error"] and step["error"]["type"]
        seen = (step["kind"], step["name"], error, step["child_id"])
        if seen != (call.kind, call.name, call.error, call.child_id) or not agrees(call.output, step["output"]):
            return f"step {step['seq']} is {step}, not {call}"
    return None


def _messages(workflow: Workflow, shown: Sequence[Any]) -> str | None:
    if len(shown) > len(workflow.messages):
        return f"{len(shown)} messages are there, and only {len(workflow.messages)} were sent"
    for position, message in enumerate(shown, 1):
        expected = workflow.messages[position - 1]
        if message["position"] != position or message["topic"] != expected.topic:
            return f"message {position} is {message}, not {expected}"
        if not agrees(expected.payload, message["payload"]):
            return f"message {position} is {message}, not {expected}"
        for name in ("id", "sent_at", "event_position", "received_at"):
            if (reason := _remember(workflow.facts, f"message {position} {name}", message[name])) is not None:
                return reason
    return None


def _pairs(board: Sequence[Any]) -> str | None:
    """What was published as a pair is never seen apart."""
    values = {event["key"]: event["value"] for event in board}
    if values.get("left") != values.get("right") or ("left" in values) != ("right" in values):
        return f"a pair was torn: {values.get('left')} and {values.get('right')}"
    return None
