"""Whether a workflow became what its program says: nothing lost, nothing twice, nothing in a wrong order.

All functions take data and return what is wrong, as sentences; none of them asks the service.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.chaos.history import Event, History, Message, Step
from tests.chaos.program import Fate, Program
from tests.chaos.workflows import KEYS, Command

WITH_A_TOKEN = frozenset({"step", "thread", "flaky", "stream", "transaction"})
PLAIN = {"sleep": None, "send": None, "mark": None, "silence": "silence"}


@dataclass(frozen=True)
class Facts:
    """What the clients know of a workflow besides its program."""

    cancelled_at: float | None = None
    resumed_at: float | None = None
    resumes: int = 0
    messages: Mapping[str, int] | None = None
    """The positions of acknowledged messages, by key."""


@dataclass(frozen=True)
class Child:
    status: str
    output: Any


class Judge:
    """Holds one workflow's history against its program."""

    def __init__(
        self, history: History, program: Program, facts: Facts, children: Mapping[str, Child], *, orphaned: bool = False
    ) -> None:
        """`orphaned`: its parent was cancelled, and so it may have been."""
        self._h, self._program, self._facts, self._children = history, program, facts, children
        self._orphaned = orphaned
        self._topics: Counter[str] = Counter()
        self._tokens = {step.output[0]: step.output[1] for step in history.steps if _is_token(step.output)}

    def wrong(self) -> Iterator[str]:
        yield from self._end()
        yield from self._log()
        yield from self._streams()
        yield from self._records()
        yield from self._executions()
        yield from self._writes()
        yield from self._messages()
        yield from self._after_the_cancel()
        yield from self._offspring()

    @property
    def _complete(self) -> bool:
        return self._h.status in ("SUCCEEDED", "FAILED")

    @property
    def _commands(self) -> list[Command]:
        return [command for command in self._program.commands if command[0] != "fail"]

    # ---- the end

    def _end(self) -> Iterator[str]:
        h, allowed = self._h, self._program.statuses
        if h.input != self._program.commands:
            yield f"has the input {h.input}"
        if h.status not in allowed and not (self._orphaned and h.status == "CANCELLED"):
            yield f"ended {h.status} and not {' or '.join(sorted(allowed))}, with {h.error}"
        if h.status == "SUCCEEDED":
            told = [event.value for event in self._own(KEYS)]
            if h.output != told:
                yield f"returned {h.output} and published {told}"
        elif h.output is not None:
            yield f"is {h.status} and has the output {h.output}"
        if h.status == "FAILED" and self._program.fate is Fate.FAILS:
            told_error = (h.error["type"], h.error["message"])
            if told_error != ("RuntimeError", self._program.commands[-1][1]):
                yield f"failed with {told_error}"

    # ---- events

    def _own(self, keys: Sequence[str] | None = None) -> list[Event]:
        return [event for event in self._h.events if event.step is None and (keys is None or event.key in keys)]

    def _log(self) -> Iterator[str]:
        positions = [event.position for event in self._h.events]
        if positions != list(range(1, len(positions) + 1)):
            yield f"the positions of its events are {positions}"
        expected = list(self._expected())
        seen = self._own()
        if self._complete and len(seen) != len(expected):
            yield f"published {len(seen)} events, and its program {len(expected)}"
        if len(seen) > len(expected):
            yield f"published more than its program: {seen[len(expected) :]}"
        for event, (key, fits) in zip(seen, expected, strict=False):
            if event.key != key or not fits(event.value):
                yield f"published {event.value} under {event.key} at {event.position}, where {key} was due"

    def _expected(self) -> Iterator[tuple[str, Callable[[Any], bool]]]:
        for number, command in enumerate(self._commands):
            verb, label, *given = command
            if verb == "mark":
                yield "mark", partial(_same, given[0])
            if verb == "callback":
                yield "callback", lambda value: isinstance(value, str) and "/callbacks/" in value
            result = self._result(verb, label, given)
            yield KEYS[number % len(KEYS)], partial(_tells, label, result)

    def _result(self, verb: str, label: str, given: list[Any]) -> Callable[[Any], bool]:
        if verb in WITH_A_TOKEN:
            return lambda result: self._is_recorded(result, {label})
        if verb == "event":
            return lambda result: _same(result, given[0])
        if verb in ("refuse", "rollback"):
            return lambda result: bool(result == label)
        if verb == "receive":
            payload = self._outside(given[0], self._topics[given[0]])
            self._topics[given[0]] += 1
            return lambda result: _same(result, payload)
        if verb == "callback":
            payload = next(payload for topic, payload in self._program.callbacks if topic == given[0])
            return lambda result: _same(result, payload)
        if verb == "echo":
            return lambda result: _same(result, given[0])
        if verb == "collect":
            return lambda result: _same(result, list(range(given[1])))
        if verb == "child":
            return lambda result: self._is_of_child(result, label, given[0])
        if verb == "gather":
            return lambda result: all(
                self._is_recorded(one, {branch}) for one, (branch, _) in zip(result, given[0], strict=True)
            )
        if verb == "race":
            return lambda result: (
                bool(result) and all(self._is_recorded(one, {racer for racer, _ in given[0]}) for one in result)
            )
        return lambda result: _same(result, PLAIN.get(verb))

    def _outside(self, topic: str, number: int) -> Any:
        payloads = [payload for name, payload in self._program.messages if name == topic]
        return payloads[number] if number < len(payloads) else object()

    def _is_recorded(self, result: Any, labels: set[str]) -> bool:
        return _is_token(result) and result[0] in labels and self._tokens.get(result[0]) == result[1]

    def _is_of_child(self, result: Any, label: str, commands: list[Command]) -> bool:
        child = self._children.get(f"{self._h.id}.{label}")
        if child is None or result[0] != commands[0][2]:
            return False
        return bool(result[1] == (child.output if child.status == "SUCCEEDED" else child.status))

    def _streams(self) -> Iterator[str]:
        """Events from inside a step come again when the step is run again, and the last run's are whole."""
        lengths = {label: given[0] for verb, label, *given in self._commands if verb == "stream"}
        streams: dict[int, list[Any]] = defaultdict(list)
        for event in self._h.events:
            if event.step is not None:
                streams[event.step].append(event.value)
        recorded = {step.seq: step.output[0] for step in self._h.steps if _is_token(step.output)}
        for seq, values in streams.items():
            label = values[0][0]
            whole = [[label, number] for number in range(lengths.get(label, 0))]
            if seq in recorded and not is_rerun_of(values, whole, self._lives - 1):
                yield f"step {seq} published {values}"
        for seq, label in recorded.items():
            if lengths.get(label) and seq not in streams:
                yield f"step {seq} published nothing, and {lengths[label]} events were due"

    # ---- records and executions

    @property
    def _lives(self) -> int:
        """How often at most something may have been begun."""
        return self._h.attempts + self._facts.resumes

    def _records(self) -> Iterator[str]:
        for what in ("seq", "done"):
            numbers = Counter(getattr(step, what) for step in self._h.steps)
            if twice := [number for number, count in numbers.items() if count > 1]:
                yield f"steps have the {what} {twice} in common"
        labels = Counter(step.output[0] for step in self._h.steps if _is_token(step.output))
        if twice_labels := [label for label, count in labels.items() if count > 1]:
            yield f"the steps {twice_labels} are recorded twice"

    def _executions(self) -> Iterator[str]:
        executions = self._h.executions
        for label, tokens in executions.items():
            if len(tokens) > self._lives:
                yield f"step {label} was executed {len(tokens)} times in {self._lives} lives"
        outside = self._labels("step", "thread", "flaky", "stream") | self._branches()
        for label in outside & self._tokens.keys():
            if executions.get(label, []).count(self._tokens[label]) != 1:
                yield f"step {label} has the result {self._tokens[label]}, and its executions {executions.get(label)}"

    def _labels(self, *verbs: str) -> set[str]:
        return {command[1] for command in self._program.commands if command[0] in verbs}

    def _branches(self) -> set[str]:
        return {branch for verb, _, *given in self._commands if verb in ("gather", "race") for branch, _ in given[0]}

    def _writes(self) -> Iterator[str]:
        counters = {label: given[0] for verb, label, *given in self._commands if verb == "transaction"}
        if self._h.name == "chaos_cleanup":
            counters = {"cleanup": 0}
        due = sorted((label, counters[label], self._tokens[label]) for label in counters.keys() & self._tokens.keys())
        made = sorted((write.label, write.counter, write.token) for write in self._h.writes)
        if made != due:
            yield f"its transactions wrote {made}, and recorded are {due}"

    # ---- messages

    def _messages(self) -> Iterator[str]:
        messages = self._h.messages
        if [message.position for message in messages] != list(range(1, self._h.inbox + 1)):
            yield f"the positions of its messages are {[message.position for message in messages]} of {self._h.inbox}"
        by_key = {message.key: message for message in messages if message.key is not None}
        for key, position in (self._facts.messages or {}).items():
            if key not in by_key or by_key[key].position != position:
                yield f"the message {key} was acknowledged at {position}, and there is {by_key.get(key)}"
        if self._complete:
            topics = Counter(message.topic for message in messages)
            if topics != self._spoken():
                yield f"has messages on {dict(topics)}, and {dict(self._spoken())} were due"
            if unread := [message.position for message in messages if message.received_seq is None]:
                yield f"the messages {unread} were not received"
        yield from self._order_of_messages()

    def _spoken(self) -> Counter[str]:
        """How many messages come on each topic in all."""
        spoken = Counter(topic for topic, _ in self._program.messages)
        spoken.update(topic for topic, _ in self._program.callbacks)
        for verb, label, *given in self._commands:
            if verb == "echo":
                spoken[label] += 1
            elif verb == "collect":
                spoken[given[0]] += given[1]
        return spoken

    def _order_of_messages(self) -> Iterator[str]:
        received = [message for message in self._h.messages if message.received_seq is not None]
        by = Counter(message.received_seq for message in received)
        if twice := [seq for seq, count in by.items() if count > 1]:
            yield f"the steps {twice} received more than one message"
        done = {step.seq: step.done for step in self._h.steps if step.kind == "receive" and step.error is None}
        if missing := [message.position for message in received if message.received_seq not in done]:
            yield f"the messages {missing} were received by no recorded step"
        if len(done) != len(by):
            yield f"{len(done)} steps received something, and {len(by)} messages were received"
        for topic in {message.topic for message in received}:
            order = [done.get(message.received_seq or 0, 0) for message in received if message.topic == topic]
            if order != sorted(order):
                yield f"the messages on {topic} were received in the order {order}"

    # ---- cancels and children

    def _after_the_cancel(self) -> Iterator[str]:
        if self._facts.cancelled_at is None or (self._h.status == "SUCCEEDED" and self._facts.resumed_at is None):
            return
        until = self._facts.resumed_at or float("inf")
        received = [message for message in self._h.messages if message.received_seq is not None]
        committed: list[Step | Event | Message] = [*self._h.steps, *self._h.events, *received]
        for what in committed:
            if self._facts.cancelled_at < what.committed < until:
                yield f"{what} was committed {what.committed - self._facts.cancelled_at:.3f} s after the cancel"

    def _offspring(self) -> Iterator[str]:
        due = {f"{self._h.id}.{label}" for label in self._labels("child")}
        there = {step.child_id for step in self._h.steps if step.kind == "child"}
        if not there <= due or (self._complete and there != due):
            yield f"its children are {sorted(map(str, there))}, and {sorted(due)} were due"
        if missing := there - self._children.keys():
            yield f"there is no such child as {sorted(map(str, missing))}"
        cleanup = self._children.get(f"{self._h.id}:abort")
        if (cleanup is not None) != (self._program.fate is Fate.GUARDED and self._h.status == "CANCELLED"):
            yield f"is {self._h.status}, and what cleans up after it is {cleanup}"


def wrong_with_cleanup(history: History) -> Iterator[str]:
    """What is wrong with a workflow that was started because another one was cancelled."""
    made = [(write.label, write.token) for write in history.writes]
    if history.status != "SUCCEEDED" or made != [tuple(history.output)]:
        yield f"ended {history.status} with {history.output}, and wrote {made}"


def _is_token(output: Any) -> bool:
    return isinstance(output, list) and len(output) == 2 and all(isinstance(part, str) for part in output)


def _tells(label: str, result: Callable[[Any], bool], value: Any) -> bool:
    return bool(value[0] == label) and result(value[1])


def _same(one: Any, other: Any) -> bool:
    """Equal, and no number taken for a truth value."""
    return bool(one == other) and (isinstance(one, bool) == isinstance(other, bool))


def is_rerun_of(seen: list[Any], whole: list[Any], reruns: int) -> bool:
    """Whether a log is some broken-off runs of a step, and a whole one at the end."""
    if seen == whole:
        return True
    if reruns <= 0:
        return False
    return any(
        seen[:length] == whole[:length] and is_rerun_of(seen[length:], whole, reruns - 1)
        for length in range(min(len(whole), len(seen)), 0, -1)
    )
