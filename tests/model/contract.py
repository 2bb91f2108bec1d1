"""The contract as a small program: what the service may answer, and what becomes of a workflow.

It knows neither time nor processes nor a database. Whatever is killed, frozen or cut off in the service, what can
be seen of it from outside is what this program says; only *how far* a workflow has got may lag behind.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ACTIVE = ("QUEUED", "RUNNING", "WAITING")
DEFINITIONS = ("puppet", "guarded", "count", "mute")


class Answer(NamedTuple):
    status: int
    code: str | None = None
    """Of the problem, when it is a refusal."""


OK, CREATED, LATER, SAME = Answer(200), Answer(201), Answer(202), Answer(304)
DONE = GONE = Answer(204)
NOT_FOUND = Answer(404, "workflow-not-found")
NEVER = Answer(410, "event-never-set")


class Unknown:
    """What the service chooses. Once it was seen it stays what it is."""

    def __init__(self) -> None:
        self.seen: Any = None
        self.known = False

    def __deepcopy__(self, memo: object) -> "Unknown":
        return self

    def __repr__(self) -> str:
        return f"<{self.seen!r}>" if self.known else "<unknown>"


def agrees(expected: Any, seen: Any) -> bool:
    """Whether they are the same JSON, to the type; what was not known is from now on."""
    if isinstance(expected, Unknown):
        if not expected.known:
            expected.seen, expected.known = seen, True
        return agrees(expected.seen, seen)
    if isinstance(expected, dict) and isinstance(seen, dict):
        return list(expected) == list(seen) and all(agrees(expected[key], seen[key]) for key in expected)
    if isinstance(expected, list) and isinstance(seen, list):
        return len(expected) == len(seen) and all(map(agrees, expected, seen))
    return type(expected) is type(seen) and bool(expected == seen)


def equal(one: Any, other: Any) -> bool:
    """Whether they are equal JSON values: members in any order, numbers by value, true no number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


@dataclass
class Event:
    key: str
    value: Any


@dataclass
class Message:
    topic: str
    payload: Any
    key: str | None = None
    """The sender's idempotency key."""


@dataclass
class Call:
    """A durable call that has come out."""

    kind: str
    name: str
    output: Any = None
    error: str | None = None
    message: str = ""
    child_id: str | None = None


@dataclass
class Progress:
    """How far a workflow's code has got, as it is recorded."""

    calls: list[Call] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    """Positions of messages."""
    memory: list[Any] = field(default_factory=list)
    doing: list[Any] | None = None
    """The command that is being carried out."""
    came: list[Call] | None = None
    """What has come out of its call, while nothing is published of it yet."""
    children: list[str] = field(default_factory=list)
    status: str | None = None
    """How the code has ended: SUCCEEDED or FAILED."""
    output: Any = None
    error: tuple[str, str, str | None] | None = None
    """Type, message, step."""


@dataclass
class Workflow:
    id: str
    name: str
    input: Any
    tags: dict[str, str] = field(default_factory=dict)
    parent: str | None = None
    delayed: bool = False
    mortal: bool = False
    """Its time is always over before anything else happens."""
    resumed: int = 0
    """How often it was."""
    ended: str | None = None
    """How it was ended from outside: CANCELLED or TIMED_OUT."""
    messages: list[Message] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    trail: list[Progress] = field(default_factory=list)
    """The commits of the last command: after a fault, each is a place where a workflow may have been stopped."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was seen of it that must not change any more."""

    @property
    def status(self) -> str:
        """ACTIVE stands for any of the three."""
        return self.ended or self.progress.status or ("QUEUED" if self.delayed else "ACTIVE")

    @property
    def terminal(self) -> bool:
        return self.status not in ("QUEUED", "ACTIVE")

    @property
    def extent(self) -> tuple[Any, ...]:
        """Differs when anything of it has changed."""
        progress = self.progress
        grown: list[list[Any]] = [self.messages, progress.received, progress.calls, progress.log]
        return (id(self), self.status, self.resumed, *map(len, grown))

    @property
    def log(self) -> list[Event]:
        return self.progress.log

    def position(self, key: str) -> int:
        """Of the newest set of a key; 0: it was never set."""
        return max((n for n, event in enumerate(self.log, 1) if event.key == key), default=0)

    def state(self, key: str, after: int) -> str:
        if self.position(key) > after:
            return "set"
        return "never" if self.terminal else "pending"


class Contract:
    """All workflows there are, and those that were deleted are not among them."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.callbacks: list[tuple[Workflow, str, Unknown]] = []
        """(workflow, topic, its URL)"""

    # ---- what is asked from outside

    def start(self, id: str, name: str, input: Any, **more: Any) -> Answer:
        known = self.workflows.get(id)
        if known is not None:
            same = known.name == name and equal(known.input, input)
            return OK if same else Answer(409, "workflow-id-conflict")
        if name not in DEFINITIONS:
            return Answer(404, "workflow-not-registered")
        if (name == "count" and not isinstance(input, (int, float))) or (name == "mute" and input is not None):
            return Answer(422, "invalid-input")
        self._add(Workflow(id, name, input, **more))
        return CREATED

    def send(self, id: str, topic: str, payload: Any, key: str | None = None) -> Answer:
        if (workflow := self.workflows.get(id)) is None:
            return NOT_FOUND
        earlier = next((m for m in workflow.messages if key is not None and m.key == key), None)
        if earlier is not None:
            same = earlier.topic == topic and equal(earlier.payload, payload)
            return OK if same else Answer(409, "idempotency-conflict")
        if workflow.terminal:
            return Answer(409, "workflow-finished")
        workflow.messages.append(Message(topic, payload, key))
        self.advance()
        return CREATED

    def complete(self, url: Unknown, payload: Any) -> Answer:
        workflow, topic, _ = next(made for made in self.callbacks if made[2] is url)
        if self.workflows.get(workflow.id) is not workflow:
            return Answer(404, "callback-not-found")
        answer = self.send(workflow.id, topic, payload, f"$callback {id(url)}")
        if answer.code == "idempotency-conflict":
            return Answer(409, "callback-used")
        return answer if answer.code else DONE

    def cancel(self, id: str, *, children: bool = True) -> Answer:
        if (workflow := self.workflows.get(id)) is None:
            return NOT_FOUND
        if workflow.terminal:
            return OK if workflow.status == "CANCELLED" else Answer(409, "workflow-finished")
        self._end(workflow, "CANCELLED", children=children)
        self.advance()
        return OK

    def resume(self, id: str) -> Answer:
        if (workflow := self.workflows.get(id)) is None:
            return NOT_FOUND
        if workflow.ended and workflow.name == "guarded":
            return Answer(409, "workflow-aborted")
        if workflow.progress.status and not workflow.ended:
            return Answer(409, "workflow-finished")
        workflow.ended, workflow.delayed = None, False
        workflow.resumed += 1
        self.advance()
        return OK

    def delete(self, id: str) -> Answer:
        if (workflow := self.workflows.get(id)) is None:
            return NOT_FOUND
        if not workflow.terminal:
            return Answer(409, "workflow-active")
        del self.workflows[id]
        if workflow.name == "guarded":
            self.workflows.pop(f"{id}:abort", None)
        self.advance()
        return GONE

    def event(self, id: str, key: str, *, after: int = 0, seen: int | None = None) -> Answer:
        """What a read of an event is answered when its time is up. `seen`: the position of an ETag that was sent."""
        if (workflow := self.workflows.get(id)) is None:
            return NOT_FOUND
        state = workflow.state(key, max(after, seen or 0))
        if state == "set":
            return OK
        if seen is not None:
            return SAME
        return NEVER if state == "never" else LATER

    def events(self, id: str, keys: Sequence[str], *, mode: str, after: int = 0) -> Answer:
        if (workflow := self.workflows.get(id)) is None:
            return NOT_FOUND
        states = [workflow.state(key, after) for key in keys]
        are_set = [state == "set" for state in states]
        if all(are_set) if mode == "all" else any(are_set):
            return OK
        return NEVER if "never" in states else LATER

    # ---- what workflows do

    def advance(self) -> None:
        """Let every workflow go on until it waits for something."""
        before = {id: copy.deepcopy(workflow.progress) for id, workflow in self.workflows.items()}
        for id, workflow in self.workflows.items():
            workflow.trail = [before[id]]
        while any(self._step(workflow) for workflow in list(self.workflows.values())):
            pass

    def _add(self, workflow: Workflow) -> None:
        self.workflows[workflow.id] = workflow
        self.advance()

    def _end(self, workflow: Workflow, status: str, *, children: bool) -> None:
        workflow.ended = status
        if workflow.name == "guarded" and (id := f"{workflow.id}:abort") not in self.workflows:
            about = {"workflow_id": workflow.id, "status": status, "input": workflow.input}
            self.workflows[id] = Workflow(id, "cleanup", about)
        for child in [w for w in self.workflows.values() if w.parent == workflow.id and not w.terminal]:
            if children:
                self._end(child, status, children=True)

    def _step(self, workflow: Workflow) -> bool:
        """Get on by one commit; False: it has ended, or waits."""
        if workflow.terminal or workflow.delayed:
            return False
        if workflow.mortal:
            self._end(workflow, "TIMED_OUT", children=False)
        elif workflow.name in ("cleanup", "count", "mute"):
            workflow.progress.status = "SUCCEEDED"
            if workflow.name != "mute":
                workflow.progress.output = workflow.input if workflow.name == "cleanup" else int(workflow.input) + 1
        elif workflow.progress.doing is None:
            if (found := self._unread(workflow, "do")) is None:
                return False
            self._begin(workflow, found)
        elif workflow.progress.came is None:
            if (calls := self._outcome(workflow, *workflow.progress.doing)) is None:
                return False
            workflow.progress.calls += calls
            workflow.progress.came = calls
            if calls[0].kind != "transaction":
                # What is published of it is committed together with it; only the commit of a transaction is its own.
                self._react(workflow, calls)
        else:
            self._react(workflow, workflow.progress.came)
        workflow.trail.append(copy.deepcopy(workflow.progress))
        return True

    def _unread(self, workflow: Workflow, topic: str) -> int | None:
        """The position of the first message on a topic that was not received."""
        for position, message in enumerate(workflow.messages, 1):
            if message.topic == topic and position not in workflow.progress.received:
                return position
        return None

    def _take(self, workflow: Workflow, position: int) -> Call:
        workflow.progress.received.append(position)
        message = workflow.messages[position - 1]
        return Call("receive", message.topic, message.payload)

    def _begin(self, workflow: Workflow, position: int) -> None:
        """Receive a command, and carry it out when it takes no call."""
        progress = workflow.progress
        progress.calls.append(self._take(workflow, position))
        verb, *given = workflow.messages[position - 1].payload
        if verb == "publish":
            progress.log.append(Event(*given))
        elif verb == "burst":
            progress.log += [Event(f"burst {n % 3}", n) for n in range(given[0])]
        elif verb == "recall":
            progress.log.append(Event("memory", list(progress.memory)))
        elif verb == "return":
            progress.status, progress.output = "SUCCEEDED", given[0]
        elif verb == "raise":
            progress.status, progress.error = "FAILED", ("ValueError", given[0], None)
        elif verb == "chance":
            self._publish(workflow, [Unknown(), Unknown(), Unknown()])
        elif verb in ("result", "stop") and given[0] not in progress.children:
            self._publish(workflow, "no child")
        else:
            progress.doing = [verb, *given]

    def _outcome(self, workflow: Workflow, verb: str, *given: Any) -> list[Call] | None:
        """What comes of the call that a command makes; None while it has to wait."""
        match verb, given:
            case "step", [label]:
                return [Call("step", "perform", label)]
            case "both", [one, other]:
                return [Call("step", "perform", one), Call("step", "perform", other)]
            case (("flop" | "crash"), [message]):
                return [Call("step", "flop", error="RuntimeError", message=message)]
            case "write", [label]:
                return [Call("transaction", "write", label)]
            case "nap", []:
                return [Call("sleep", "sleep")]
            case (("receive" | "look"), [topic]):
                found = self._unread(workflow, topic)
                if found is not None:
                    return [self._take(workflow, found)]
                return [Call("receive", topic, error="TimedOut")] if verb == "look" else None
            case "child", [id]:
                return [self._bear(workflow, id)]
            case "result", [id]:
                return self._result_of(id)
            case "stop", [id]:
                return [Call("cancel", "cancel", error=self._cancel_below(id))]
            case "watch", [id, key]:
                return self._event_of(id, key)
            case "tell", [id, topic, payload]:
                return [self._tell(id, topic, payload)]
            case "callback", [topic]:
                return [Call("callback", topic)]
        return None

    def _react(self, workflow: Workflow, calls: list[Call]) -> None:
        """Go on with what has come of a command's calls: publish it as a pair of events."""
        progress = workflow.progress
        (verb, *_), progress.doing, progress.came = progress.doing or [""], None, None
        first = calls[0]
        result = [call.output for call in calls] if verb == "both" else first.output
        if first.kind == "child" and first.error is None:
            progress.children.append(first.child_id or "")
            result = first.child_id
        elif first.kind == "callback":
            result = Unknown()
            self.callbacks.append((workflow, first.name, result))
        elif first.kind == "step" and first.error is not None:
            result = "StepFailed"
            if verb == "crash":
                progress.status, progress.error = "FAILED", (first.error, first.message, first.name)
        elif first.error is not None:
            result = first.error
        if progress.status is None:
            self._publish(workflow, result)

    def _publish(self, workflow: Workflow, result: Any) -> None:
        workflow.progress.memory.append(result)
        workflow.progress.log += [Event("left", result), Event("right", result)]

    # ---- what they do to each other

    def _bear(self, parent: Workflow, id: str) -> Call:
        known = self.workflows.get(id)
        if known is None:
            self.workflows[id] = Workflow(id, "puppet", "a child", parent=parent.id)
        elif (known.parent, known.name, known.input) != (parent.id, "puppet", "a child"):
            return Call("child", "puppet", error="WorkflowIdConflict")
        return Call("child", "puppet", child_id=id)

    def _result_of(self, id: str) -> list[Call] | None:
        target = self.workflows.get(id)
        if target is None:
            return [Call("result", "result", error="WorkflowNotFound")]
        if not target.terminal:
            return None
        if target.status == "SUCCEEDED":
            return [Call("result", "result", target.progress.output)]
        return [Call("result", "result", error="ChildFailed")]

    def _cancel_below(self, id: str) -> str | None:
        target = self.workflows.get(id)
        if target is None:
            return "WorkflowNotFound"
        if not target.terminal:
            self._end(target, "CANCELLED", children=True)
        return None

    def _event_of(self, id: str, key: str) -> list[Call] | None:
        target = self.workflows.get(id)
        if target is None:
            return [Call("get_event", key, error="WorkflowNotFound")]
        if position := target.position(key):
            return [Call("get_event", key, target.log[position - 1].value)]
        return [Call("get_event", key, error="EventNeverSet")] if target.terminal else None

    def _tell(self, id: str, topic: str, payload: Any) -> Call:
        target = self.workflows.get(id)
        if target is None:
            return Call("send", topic, error="WorkflowNotFound")
        if target.terminal:
            return Call("send", topic, error="WorkflowFinished")
        target.messages.append(Message(topic, payload))
        return Call("send", topic)
