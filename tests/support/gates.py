"""What steps of test workflows do outside: leave a line in a file, and wait until a test lets them go on."""

import os
from pathlib import Path

from tests.support.waiting import eventually, eventually_sync


def note(path: str | Path, line: str) -> None:
    """Append a line: whole, and kept whatever becomes of this process."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def notes(path: str | Path) -> list[str]:
    """The lines so far, in the order in which they came."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []


async def opened(gate: str | Path) -> None:
    """Wait until the file is there."""
    await eventually(Path(gate).exists, timeout=120, message=f"nobody opened {gate}")


def opened_sync(gate: str | Path) -> None:
    eventually_sync(Path(gate).exists, timeout=120, message=f"nobody opened {gate}")
