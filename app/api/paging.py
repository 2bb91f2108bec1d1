"""Cursors: where a listing goes on, together with the filters that it had.

A cursor is sealed with a digest of itself and of the path it belongs to, so that one that was cut, changed
or taken from another listing is found out. It is no secret: it holds what the caller has sent and seen.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from app.api.schemas.base import Query
from app.errors import Fault, InvalidCursor

Q = TypeVar("Q", bound=Query)

SEAL_BYTES = 12
NO_FILTERS = frozenset({"cursor", "limit", "include", "timeout"})
"""Parameters that may change from page to page."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Q]):
    """One page that was asked for: its query, with the cursor's filters, and where it begins."""

    path: str
    query: Q
    position: Any

    def cursor(self, position: Any) -> str:
        """The cursor of the page after this one."""
        return seal(self.path, {n: v for n, v in self.query.given.items() if n not in NO_FILTERS}, position)

    def link(self, cursor: str | None) -> dict[str, str]:
        """The Link header to the page after this one."""
        if cursor is None:
            return {}
        kept = [(n, v) for n, vs in self.query.given.items() if n in NO_FILTERS and n != "cursor" for v in vs]
        return {"Link": f'<{self.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'}


def begin(path: str, query: Q, cursor: str | None) -> Page[Q]:
    """Raises InvalidCursor for a cursor that was not made here, or not with these filters."""
    if cursor is None:
        return Page(path, query, None)
    filters, position = unseal(path, cursor)
    kept = {name: texts for name, texts in query.given.items() if name in NO_FILTERS}
    whole = type(query).of({**filters, **kept})
    if any(getattr(query, name) != getattr(whole, name) for name in query.given):
        raise _refusal("the cursor belongs to other filters")
    return Page(path, whole, position)


def seal(path: str, filters: Mapping[str, list[str]], position: Any) -> str:
    content = json.dumps([filters, position], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(path, content) + content).rstrip(b"=").decode()


def unseal(path: str, cursor: str) -> tuple[dict[str, list[str]], Any]:
    try:
        sealed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise _refusal("this is no cursor") from None
    digest, content = sealed[:SEAL_BYTES], sealed[SEAL_BYTES:]
    if digest != _digest(path, content):
        raise _refusal("the cursor was not made by this listing")
    filters, position = json.loads(content)
    return filters, position


def _digest(path: str, content: bytes) -> bytes:
    return blake2b(path.encode() + b"\0" + content, digest_size=SEAL_BYTES, person=b"milepost cursor").digest()


def _refusal(message: str) -> InvalidCursor:
    return InvalidCursor(Fault(message, parameter="cursor"))
