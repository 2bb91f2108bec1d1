"""A short digest of a step's arguments: the same in each process, whatever the hash seed.

It tells a replay that asks for something else from one that asks for the same. So it is about
what the arguments say, not how they are kept: members in any order, a model like its fields.
The context, and what has no JSON form (a client, a lock), says nothing and counts as null.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from app import values

SIZE = 8
_DEEPEST = 100
_MANY_BITS = 10_000


def digest(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    if not args and not kwargs:
        return _NOTHING
    try:
        text = _encode([args, kwargs])
    except (TypeError, ValueError, RecursionError):
        # Names of members that can't be sorted or aren't text, an endless integer, a circle.
        text = _encode(_plain([args, kwargs], 0))
    return blake2b(text.encode(), digest_size=SIZE).digest()


def _shallow(value: Any) -> Any:
    """One level of what JSON does not know by itself, as something it knows."""
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return None


def _of_model(model: BaseModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields} | (model.__pydantic_extra__ or {})


def _of_set(items: frozenset[Any]) -> list[Any]:
    # In the order of their text: a set's own order hangs on the hash seed.
    return sorted((_plain(item, 1) for item in items), key=_encode)


_FORMS: Sequence[tuple[type | tuple[type, ...], Callable[[Any], Any]]] = (
    (BaseModel, _of_model),
    (Enum, lambda member: member.value),
    ((datetime, date, time), lambda moment: moment.isoformat()),
    (timedelta, lambda span: span.total_seconds()),
    ((UUID, Decimal, PurePath), str),
    ((bytes, bytearray, memoryview), lambda data: bytes(data).hex()),
    ((set, frozenset), _of_set),
    (Mapping, dict),
    (Sequence, list),
)

_encode = values.encoder(sort_keys=True, default=_shallow)


def _plain(value: Any, depth: int) -> Any:
    """The slow way: the whole as plain JSON, what is too deep (or turns in a circle) left out."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if value.bit_length() < _MANY_BITS else hex(value)
    if value is None or isinstance(value, (bool, float, str)):
        return value
    if depth == _DEEPEST:
        return None
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_name(name, depth): _plain(item, depth + 1) for name, item in value.items()}
    return _plain(_shallow(value), depth + 1)


def _name(name: Any, depth: int) -> str:
    """A member's name as text; one that is no text is marked, so that 1 and "1" differ."""
    return name if isinstance(name, str) else "\0" + _encode(_plain(name, depth + 1))


_NOTHING = blake2b(b"[]", digest_size=SIZE).digest()
