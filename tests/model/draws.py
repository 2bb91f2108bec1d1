"""What Hypothesis draws from."""

from typing import Any

from hypothesis import strategies as st

letters = st.sampled_from("aaabbcd")
"""Ids of workflows; most of what happens, happens to few."""
sides = st.sampled_from([0, 1])
TRANSACTIONS = 1_000
labels = st.integers(0, TRANSACTIONS - 1)
"""Of steps; those of transactions begin where these end."""
positions = st.integers(0, 20)
topics = st.sampled_from(["x", "y"])
keys = st.sampled_from(["k", "l"])
names = st.sampled_from(["puppet"] * 4 + ["guarded"] * 2 + ["count", "mute", "nobody"])
_values: list[Any] = [None, 0, 1, True, 1.0, "", "text", [], {"b": 1, "a": [None]}, {"a": [None], "b": 1.0}, 2**70]
values = st.sampled_from(_values)
idempotency_keys = st.sampled_from([None, None, "one", "two"])

in_line = st.one_of(
    st.tuples(st.just("step"), labels),
    st.tuples(st.just("both"), labels, labels),
    st.tuples(st.just("write"), labels.map(TRANSACTIONS.__add__)),
    st.tuples(st.just("nap")),
    st.tuples(st.just("flop"), st.just("it flopped")),
)
"""Commands that may wait behind another one: their outcome is the same whenever they are carried out."""
IN_LINE = ("step", "both", "write", "nap", "flop")

local = st.one_of(
    in_line,
    in_line,
    st.tuples(st.just("publish"), keys, values),
    st.tuples(st.just("burst"), st.integers(1, 8)),
    st.tuples(st.just("recall")),
    st.tuples(st.just("chance")),
    st.tuples(st.just("return"), values),
    st.tuples(st.sampled_from(["raise", "crash"]), st.just("it is broken")),
)
"""Commands that concern nobody else."""

commands = st.one_of(
    local,
    local,
    st.tuples(st.just("doze")),
    st.tuples(st.sampled_from(["receive", "look"]), topics),
    st.tuples(st.just("callback"), topics),
    st.tuples(st.just("child"), letters),
    st.tuples(st.sampled_from(["result", "stop"]), letters),
    st.tuples(st.just("watch"), letters, keys),
    st.tuples(st.just("tell"), letters, topics, values),
)
OF_OTHERS = ("child", "result", "stop", "watch", "tell")
"""Commands whose first argument is the id of another workflow."""

JOURNAL = ("journal.before_flush", "journal.after_flush")
_elsewhere = ("mailbox.before_read", "lookup.after_unread", "executor.after_claim", "executor.after_read")
_steps = ("step.before_call", "step.after_call")
_transactions = ("transaction.before_commit", "transaction.after_commit")


def _middles(commands: st.SearchStrategy[Any], *places: str) -> st.SearchStrategy[tuple[Any, str, int]]:
    return st.tuples(commands, st.sampled_from([*JOURNAL, *places]), st.sampled_from([1, 1, 1, 2]))


middles = st.one_of(
    _middles(local, *_elsewhere),
    _middles(st.one_of(st.tuples(st.just("step"), labels), st.tuples(st.just("both"), labels, labels)), *_steps),
    _middles(st.tuples(st.just("write"), labels.map(TRANSACTIONS.__add__)), *_transactions),
)
"""A command, and where in the middle of it something happens to a replica: at which point, and when it is passed for
the how manieth time."""
losses = st.one_of(
    st.tuples(local, st.sampled_from([*JOURNAL, "mail.after_commit"])),
    st.tuples(st.tuples(st.just("write"), labels.map(TRANSACTIONS.__add__)), st.sampled_from(_transactions)),
)
"""A command, and where an answer of the database to it is lost."""
