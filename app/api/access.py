"""Who may do what, when there are API keys: the scope that each operation needs, and the gate that asks for it.

An operation says what it needs with `@needs(Scope.READ)`, or `@needs(None)` when it needs no key. One that says
nothing can't be served at all. The document tells the same, from the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from starlette.routing import BaseRoute
from starlette.types import Scope as AsgiScope

from app.api.request import given
from app.errors import InsufficientScope, Unauthenticated
from app.keys import Key, Keys, Scope, is_secret

SCHEME: Final = "apiKey"
"""The name in the document."""
OWNER: Final = "milepost.owner"
"""In a request's scope: the name of the key that it came with."""
_NEEDS: Final = "needs"
_BEARER: Final = b"bearer "

Door = tuple[BaseRoute, Scope | None]
"""A route and the scope that it needs; None: no key."""

E = TypeVar("E", bound=Callable[..., Any])


def needs(scope: Scope | None) -> Callable[[E], E]:
    def declare(endpoint: E) -> E:
        setattr(endpoint, _NEEDS, scope)
        return endpoint

    return declare


def doors(routes: Iterable[BaseRoute], pages: Iterable[BaseRoute] = ()) -> list[Door]:
    """What each route needs; `pages` need nothing. Raises LookupError for a route that does not say."""
    return [*((route, _need(route)) for route in routes), *((page, None) for page in pages)]


def security(endpoint: Callable[..., Any]) -> dict[str, Any]:
    """What the document says of it."""
    scope = getattr(endpoint, _NEEDS, None)
    return {"security": [{SCHEME: [str(scope)]}] if scope else []}


class Gate:
    """Lets a request through when its key may do what it asks for, before any of its body is read.

    Without a good key everything but the open doors is one and the same 401: paths and methods that there aren't, too.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def admit(self, scope: AsgiScope, door: Door | None) -> None:
        """`door` is what would serve it, if anything does. Raises Unauthenticated, InsufficientScope."""
        key = self._key(scope)
        if key is not None:
            scope[OWNER] = key.name
        if door is not None:
            _, need = door
            if need is None or (key is not None and need in key.scopes):
                return
            if key is not None:
                raise InsufficientScope(need)
        if key is None:
            raise Unauthenticated

    def _key(self, scope: AsgiScope) -> Key | None:
        sent = given(scope, b"authorization")
        if len(sent) != 1 or sent[0][: len(_BEARER)].lower() != _BEARER:
            return None
        secret = sent[0][len(_BEARER) :].strip(b" ")
        return self._keys.owner(secret) if is_secret(secret) else None


def _need(route: BaseRoute) -> Scope | None:
    endpoint = getattr(route, "endpoint", None)
    if not hasattr(endpoint, _NEEDS):
        raise LookupError(f"{getattr(route, 'path', route)} does not say which scope it needs")
    need: Scope | None = getattr(endpoint, _NEEDS)
    return need
