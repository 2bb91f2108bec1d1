"""Random programs, and all that is known beforehand of what will become of them.

A unit of load is one program, or a party of several that send each other messages. It is made of the seed and its
number alone, so a run can be repeated, and the checks at its end need not believe anything that the service says.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.chaos.workflows import Command

LONGEST = 20
"""Commands of a program, at most."""


class Fate(StrEnum):
    """How a program is to end."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    CANCELS_ITSELF = "cancels itself"
    CANCELLED = "cancelled"
    GUARDED = "cancelled, and cleaned up after"
    RESUMED = "cancelled and resumed"
    LATE = "out of time"
    POISON = "ends its process"


ENDS: dict[Fate, frozenset[str]] = {
    Fate.SUCCEEDS: frozenset({"SUCCEEDED"}),
    Fate.FAILS: frozenset({"FAILED"}),
    Fate.CANCELS_ITSELF: frozenset({"CANCELLED"}),
    # Whoever cancels may come too late.
    Fate.CANCELLED: frozenset({"CANCELLED", "SUCCEEDED"}),
    Fate.GUARDED: frozenset({"CANCELLED", "SUCCEEDED"}),
    Fate.RESUMED: frozenset({"SUCCEEDED"}),
    Fate.LATE: frozenset({"TIMED_OUT"}),
    Fate.POISON: frozenset({"DEAD"}),
}
FROM_OUTSIDE = frozenset({Fate.CANCELLED, Fate.GUARDED, Fate.RESUMED})
SCRIPTED = {Fate.GUARDED: "chaos_guarded", Fate.POISON: "chaos_poison"}


@dataclass(frozen=True)
class Program:
    name: str
    """The workflow's id, where its client chooses it."""
    commands: list[Command]
    fate: Fate = Fate.SUCCEEDS
    keyed: bool = False
    """Started with an Idempotency-Key and no id."""
    delay: float = 0.0
    timeout: float | None = None
    messages: list[tuple[str, Any]] = field(default_factory=list)
    """What is sent from outside, in this order, as (topic, payload)."""
    callbacks: list[tuple[str, Any]] = field(default_factory=list)
    """What the callbacks' parties answer, in this order."""

    @property
    def definition(self) -> str:
        return SCRIPTED.get(self.fate, "chaos")

    @property
    def statuses(self) -> frozenset[str]:
        return ENDS[self.fate]


class Author:
    """Writes one program."""

    def __init__(self, rng: random.Random, name: str, *, children: bool = True) -> None:
        self._rng, self._name, self._children = rng, name, children
        self.commands: list[Command] = []
        self.messages: list[tuple[str, Any]] = []
        self.callbacks: list[tuple[str, Any]] = []

    def write(self, count: int) -> None:
        verbs, weights = zip(*WEIGHTS.items(), strict=True)
        for verb in self._rng.choices(verbs, weights, k=count):
            if verb != "child" or self._children:
                self.add(verb, *getattr(self, f"_{verb}", list)())

    def add(self, verb: str, *given: Any) -> None:
        self.commands.append([verb, self._label(), *given])

    def _label(self) -> str:
        return f"c{len(self.commands)}"

    def _pace(self, longest: float = 0.1) -> float:
        return round(self._rng.random() * longest, 3)

    def _event(self) -> list[Any]:
        return [self._rng.choice([None, 0, 1.5, "é\n", [1, [2]], {"a": {"b": "c"}}, 2**70, True])]

    def _step(self) -> list[Any]:
        return [self._pace()]

    def _thread(self) -> list[Any]:
        return [self._pace()]

    def _stream(self) -> list[Any]:
        return [self._rng.randint(1, 5)]

    def _transaction(self) -> list[Any]:
        return [self._rng.randrange(1000)]

    def _rollback(self) -> list[Any]:
        return [self._rng.randrange(1000)]

    def _sleep(self) -> list[Any]:
        # Some are longer than what a workflow may linger in memory.
        return [self._pace(0.3) if self._rng.random() < 0.7 else 0.5 + self._pace(1.5)]

    def _silence(self) -> list[Any]:
        return [self._pace(0.4)]

    def _receive(self) -> list[Any]:
        topic = self._rng.choice(["left", "right"])
        self.messages.append((topic, {"n": len(self.messages)}))
        return [topic]

    def _echo(self) -> list[Any]:
        return [self._rng.randrange(10**6)]

    def _callback(self) -> list[Any]:
        self.callbacks.append((f"call {len(self.callbacks)}", ["answer", self._rng.randrange(100)]))
        return [self.callbacks[-1][0]]

    def _branches(self, longest: float) -> list[list[Any]]:
        return [[f"{self._label()}{letter}", self._pace(longest)] for letter in "xyz"[: self._rng.randint(2, 3)]]

    def _gather(self) -> list[Any]:
        return [self._branches(0.1)]

    def _race(self) -> list[Any]:
        return [self._branches(0.2)]

    def _child(self) -> list[Any]:
        author = Author(self._rng, f"{self._name}.{self._label()}", children=False)
        author.add("mark", self._rng.randrange(10**6))
        for verb in self._rng.choices(["step", "transaction", "sleep", "echo"], k=self._rng.randint(0, 4)):
            author.add(verb, *getattr(author, f"_{verb}")())
        if self._rng.random() < 0.15:
            author.add("fail")
        return [author.commands]


WEIGHTS = {
    "step": 22,
    "thread": 6,
    "event": 10,
    "stream": 5,
    "transaction": 12,
    "rollback": 2,
    "flaky": 4,
    "refuse": 4,
    "sleep": 10,
    "silence": 3,
    "receive": 9,
    "echo": 5,
    "callback": 3,
    "gather": 4,
    "race": 3,
    "child": 5,
}
FATES = {
    Fate.SUCCEEDS: 78,
    Fate.FAILS: 5,
    Fate.CANCELS_ITSELF: 3,
    Fate.CANCELLED: 4,
    Fate.GUARDED: 3,
    Fate.RESUMED: 4,
    Fate.LATE: 3,
}


def unit(seed: int, number: int) -> list[Program]:
    """The programs of one unit of load, to be started in this order."""
    rng = random.Random(f"{seed}/{number}")
    name = f"chaos-{seed}-{number}"
    return _party(rng, name) if rng.random() < 0.06 else [_single(rng, name)]


def poison(seed: int, number: int) -> Program:
    return Program(f"poison-{seed}-{number}", [["event", "c0", 1], ["poison", "c1"]], Fate.POISON)


def _single(rng: random.Random, name: str) -> Program:
    fate = rng.choices(list(FATES), list(FATES.values()))[0]
    # A cancel takes the children along, and a resume does not bring them back.
    author = Author(rng, name, children=fate is not Fate.RESUMED)
    author.write(min(LONGEST - 2, 1 + int(rng.expovariate(1 / 5))))
    timeout = None
    if fate is Fate.FAILS:
        author.add("fail")
    elif fate is Fate.CANCELS_ITSELF:
        author.add("suicide")
    elif fate in FROM_OUTSIDE:
        author.add("sleep", 0.3)
    elif fate is Fate.LATE:
        author.add("receive", "never")
        timeout = 0.5 + rng.random()
    return Program(
        name,
        author.commands,
        fate,
        keyed=rng.random() < 0.2,
        delay=round(rng.random() * 2, 2) if rng.random() < 0.05 else 0.0,
        timeout=timeout,
        messages=author.messages,
        callbacks=author.callbacks,
    )


def _party(rng: random.Random, name: str) -> list[Program]:
    """Someone who collects, and some who send to it."""
    senders = rng.randint(2, 4)
    host = Author(rng, name)
    host.write(rng.randint(0, 2))
    host.add("collect", "party", senders)
    guests = []
    for number in range(senders):
        author = Author(rng, f"{name}-{number}")
        author.write(rng.randint(0, 3))
        author.add("send", name, "party", number)
        guests.append(
            Program(f"{name}-{number}", author.commands, messages=author.messages, callbacks=author.callbacks)
        )
    return [Program(name, host.commands, messages=host.messages, callbacks=host.callbacks), *guests]
