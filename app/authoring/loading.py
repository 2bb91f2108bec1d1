"""Imports the modules that MILEPOST_WORKFLOWS names, for the workflows that they register."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence

from app.errors import AuthoringError


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
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return AuthoringError(
        f"The workflows of {name!r} can't be loaded: {type(error).__name__}: {error}"
        f" (line {frame.lineno} of {frame.filename})"
    )
