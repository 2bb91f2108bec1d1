"""Named statements: `-- name: claim` opens a block in a `.sql` file, the next comment says what it does."""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(noun: str) -> dict[str, str]:
    """The statements of `<noun>.sql` by their names."""
    text = resources.files(__package__).joinpath(f"{noun}.sql").read_text(encoding="utf-8")
    _, *blocks = _NAME.split(text)
    return {name: body.strip() for name, body in zip(blocks[::2], blocks[1::2], strict=True)}
