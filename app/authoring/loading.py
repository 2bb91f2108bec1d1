"""Imports the modules that MILEPOST_WORKFLOWS names, for the workflows that they register."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence
from pathlib import Path

from app.errors import AuthoringError

_OWN = str(Path(__file__).parent)
"""The folder of the decorators."""


def load(modules: Sequence[str]) -> None:
    """Import each module once; the first that fails is told by its name and the cause."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                raise AuthoringError(
                    f"There is no module {name!r} to load workflows from."
                    " It must be importable: installed, or in a folder of PYTHONPATH."
                ) from error
            raise _failed(name, error) from error
        except Exception as error:
            raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> AuthoringError:
    line, file = _place(error)
    said = error.msg if isinstance(error, SyntaxError) else error
    return AuthoringError(
        f"The workflows of {name!r} can't be loaded: {type(error).__name__}: {said} (line {line} of {file})"
    )


def _place(error: Exception) -> tuple[int | None, str | None]:
    """Where the author finds what is wrong: not in the decorator that found it."""
    if isinstance(error, SyntaxError):
        return error.lineno, error.filename
    frames = traceback.extract_tb(error.__traceback__)
    written = [frame for frame in frames if not frame.filename.startswith((_OWN, "<frozen"))]
    last = written[-1] if written else frames[-1]
    return last.lineno, last.filename
