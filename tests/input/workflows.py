"""Workflows whose code makes what no value may be."""

from typing import Any

from app import Context, workflow


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


MADE: dict[str, Any] = {
    "U+0000": lambda: "a\0b",
    "U+0000 in a name": lambda: {"a\0b": 1},
    "a lone surrogate": lambda: ["\ud800"],
    "NaN": lambda: {"n": float("nan")},
    "infinity": lambda: [float("-inf")],
    "101 levels": lambda: _nested(101),
    "endless levels": _endless,
    "an integer of 4,001 digits": lambda: 10**4_000,
    "a mebibyte and a byte": lambda: "x" * 1_048_575,
    "16 MB": lambda: "x" * 16_000_000,
    "no JSON": object,
}
NO_TEXT = frozenset(MADE) - {"U+0000", "a mebibyte and a byte", "16 MB"}
"""What can't be a key or topic because it is no text at all."""
WAYS = ("output", "event", "step", "message", "child", "key", "topic")


@workflow
async def spill(ctx: Context, order: list[str]) -> Any:
    """Make what the second word says, and have it go the way of the first."""
    way, what = order
    made = MADE[what]()
    if way == "event":
        await ctx.set_event("made", made)
    elif way == "step":
        await ctx.step(make, what)
    elif way == "message":
        await ctx.send("waiting", "made", made)
    elif way == "child":
        await ctx.start("echo", made)
    elif way == "key":
        await ctx.set_event(made, 1)
    elif way == "topic":
        await ctx.send("waiting", made, 1)
    return made if way == "output" else "it went through"


async def make(what: str) -> Any:
    return MADE[what]()
