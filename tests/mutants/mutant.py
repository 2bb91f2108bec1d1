"""What a mutant is: the service with one thing in it broken, and the tests that have to notice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class Stale(Exception):
    """The text that a mutant changes is not in the source any more, or is there more than once."""


@dataclass(frozen=True)
class Mutant:
    name: str
    breaks: str
    """What does not hold any more."""
    file: str
    """Below `app/`."""
    edits: Sequence[tuple[str, str]]
    """(text, replacement): each text is in the file exactly once."""
    tests: Sequence[str]
    """At least one of these fails."""

    def apply(self, root: Path) -> None:
        """Break a copy of the service."""
        path = root / "app" / self.file
        text = path.read_text()
        for old, new in self.edits:
            if (count := text.count(old)) != 1:
                raise Stale(f"{self.name}: app/{self.file} has this {count} times, not once:\n{old}")
            text = text.replace(old, new)
        path.write_text(text)


def mutant(name: str, breaks: str, file: str, *edits: tuple[str, str], tests: Sequence[str]) -> Mutant:
    return Mutant(name, breaks, file, edits, tests)
