"""The code blocks of README.md and docs/, for the tests that run them.

Every block of a page names its language. `text` and `mermaid` are looked at and not run. A block of any other
language is run by a test, which opens its page, or the section of it under a heading, and takes the blocks from it
one after the other:

    with script("docs/operations/container.md", "Your own workflows") as blocks:
        (folder / "Dockerfile").write_text(blocks.take("dockerfile").text)
        shell.run(blocks.take("sh"), cwd=folder)
        assert blocks.take("json").fits(answer.text)

When the `with` block is left without an error, nothing of the section may be left to take. And `tests/test_pages.py`
reads in the tests' source which pages and sections are opened, so the names are written there as they are, and fails
for a block that nobody takes. Where that test stands, and so which target of the Makefile runs it, is its own affair.
`script("docs/authoring.md", only="python")` opens one language of a page; another test takes the others.

A block of `json` is an answer: `fits` compares it with the real one, where `…` stands for anything.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8000"
"""Where the pages have the service."""

LOOKED_AT = ("text", "mermaid")
"""What is no code."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    """The number of its first line in the page."""
    language: str
    headings: tuple[str, ...]
    """The headings that it stands under, the nearest last."""
    text: str

    def belongs(self, section: str | None, language: str | None) -> bool:
        return (section is None or section in self.headings) and language in (None, self.language)

    def at(self, address: str) -> "Block":
        """The same for a service that is somewhere else than where the pages have it."""
        return replace(self, text=self.text.replace(ADDRESS, address))

    def fits(self, answer: str) -> bool:
        """Whether an answer is the one that is shown: blanks do not count, and `…` stands for anything."""
        shown = "".join(self.text.split())
        return re.fullmatch(".*?".join(map(re.escape, shown.split("…"))), "".join(answer.split())) is not None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Blocks:
    """The blocks of a page, or of a section of it, in their order."""

    def __init__(self, blocks: list[Block]) -> None:
        self._left = blocks

    def take(self, language: str) -> Block:
        """The next block, which is of this language."""
        assert self._left, "there is no further block"
        block = self._left.pop(0)
        assert block.language == language, f"{block} is {block.language}, and not {language}"
        return block

    def rest(self, language: str) -> list[Block]:
        """All that are left of this language, wherever they stand."""
        taken = [block for block in self._left if block.language == language]
        self._left = [block for block in self._left if block.language != language]
        return taken

    @property
    def left(self) -> list[str]:
        return [str(block) for block in self._left]


@contextmanager
def script(page: str, section: str | None = None, only: str | None = None) -> Iterator[Blocks]:
    """The blocks to be run of a page (its name from the root on): of the section with this heading, of one language."""
    blocks = Blocks([block for block in runnable(page) if block.belongs(section, only)])
    yield blocks
    assert blocks.left == [], "these blocks were not taken"


def runnable(page: str) -> Iterator[Block]:
    return (block for block in read(page) if block.language not in LOOKED_AT)


def read(page: str) -> Iterator[Block]:
    """All code blocks of a page."""
    headings: list[tuple[int, str]] = []
    fence, language, first, text = "", "", 0, ""
    for number, line in enumerate((ROOT / page).read_text().splitlines(keepends=True), start=1):
        if fence:
            if line.strip() == fence:
                above = tuple(heading for _, heading in headings)
                yield Block(page, first, language, above, text)
                fence = ""
            else:
                text += line
        elif opening := re.match(r"\s*(`{3,})\s*(\S*)", line):
            fence, language = opening.groups()
            first, text = number + 1, ""
        elif heading := re.match(r"(#+) +(.+)", line):
            depth = len(heading[1])
            headings = [(d, h) for d, h in headings if d < depth] + [(depth, heading[2].strip())]
    assert not fence, f"{page}: the last block is not closed"


def pages() -> list[str]:
    """README.md and every page of docs/."""
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
