"""All runs of something that makes choices. A run is the record of them, and the next one differs in the last."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """One run: repeats what it was given, then takes the first of whatever is offered."""

    def __init__(self, given: list[int]) -> None:
        self._given = given
        self.made: list[tuple[int, int]] = []
        """(what was chosen, of how many)."""

    def pick(self, count: int) -> int:
        """One of `count` things, counted from 0."""
        place = len(self.made)
        chosen = self._given[place] if place < len(self._given) else 0
        assert 0 <= chosen < count, f"choice {place} was {chosen}, and is one of {count} now: the run is not repeatable"
        self.made.append((chosen, count))
        return chosen

    def __str__(self) -> str:
        return ".".join(str(chosen) for chosen, _ in self.made) or "-"


def exhaustive() -> Iterator[Choices]:
    """Runs, one after the other, until every choice has been every one of its possibilities."""
    given: list[int] = []
    while True:
        run = Choices(given)
        yield run
        made = run.made
        while made and made[-1][0] + 1 >= made[-1][1]:
            made.pop()
        if not made:
            return
        given = [chosen for chosen, _ in made[:-1]] + [made[-1][0] + 1]


def interleavings(*sequences: Sequence[T]) -> Iterator[list[T]]:
    """All orders of what happens that keep each of the sequences in its own."""
    if not any(sequences):
        yield []
    for n, sequence in enumerate(sequences):
        if sequence:
            rest = (*sequences[:n], sequence[1:], *sequences[n + 1 :])
            for order in interleavings(*rest):
                yield [sequence[0], *order]
