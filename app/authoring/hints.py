"""Reads annotations one at a time: an author's others may exist for the type checker alone."""

from __future__ import annotations

import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from app.errors import AuthoringError


def resolve(function: Callable[..., Any], name: str) -> Any:
    """The annotation of a parameter (or "return"), strings evaluated; Any where there is none."""
    annotations = getattr(function, "__annotations__", {})
    if name not in annotations:
        return Any
    annotation = annotations[name]
    if annotation is None:
        return None
    bearer = SimpleNamespace(__annotations__={name: annotation})
    try:
        hints = typing.get_type_hints(
            bearer, getattr(function, "__globals__", {}), _enclosing(function), include_extras=True
        )
    except NameError as error:
        what = "result" if name == "return" else f"parameter {name!r}"
        raise AuthoringError(
            f"The type of the {what} of {function.__qualname__} can't be found: {error}."
            " Define or import it at the top level of the module, and not under TYPE_CHECKING."
        ) from None
    return None if hints[name] is type(None) else hints[name]


def _enclosing(function: Callable[..., Any]) -> dict[str, Any]:
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    found = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # an enclosing variable that has no value yet
    return found
