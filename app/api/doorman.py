"""Who may come in while there are no API keys: whoever is on this machine, and no web page of elsewhere.

A browser lets any page send requests to a loopback address. Two headers tell such requests: `Host`, which
names the foreign site when its name was made to resolve to this machine, and `Origin`. Where there are keys, neither
is asked for: what needs one can't be done by a page that hasn't got it.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.request import given
from app.errors import HostRefused, MalformedRequest, OriginRefused

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
EXPOSED = b"Allow, ETag, Link, Location, Retry-After, WWW-Authenticate, Workflow-Status, X-Request-Id"
ACCEPTED = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Traceparent, X-Request-Id"
)
METHODS = "GET, HEAD, POST, PUT, DELETE"
CALLBACKS = "/callbacks/"
"""Called by parties that know nothing of us; the unguessable token is their right."""
MOST_HOSTS = 100
"""Good names of this service that are remembered."""
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\s:/?#@\[\]]+))(?::[0-9]*)?").fullmatch


class Sharing:
    """Lets pages of the allowed origins read every answer, refusals too.

    It stands outside of whatever makes answers. Caches are to know that these depend on who asks.
    """

    def __init__(self, app: ASGIApp, *, cors_origins: tuple[str, ...]) -> None:
        self._app = app
        self._origins = frozenset(cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origins = given(scope, b"origin")
        shared = [(b"vary", b"Origin")]
        if len(origins) == 1 and origins[0].decode("latin-1").lower() in self._origins:
            shared += [(b"access-control-allow-origin", origins[0]), (b"access-control-expose-headers", EXPOSED)]

        async def share(message: Message) -> None:
            if "headers" in message:
                message = {**message, "headers": [*message["headers"], *shared]}
            await send(message)

        await self._app(scope, receive, share)


class Doorman:
    """`keyed`: there are API keys."""

    def __init__(self, *, public_url: str | None, cors_origins: tuple[str, ...], keyed: bool = False) -> None:
        self._keyed = keyed
        self._public = urlsplit(public_url) if public_url else None
        self._origins = frozenset(cors_origins)
        self._hosts: set[bytes] = set()

    def admit(self, scope: Scope) -> Response | None:
        """Raises a Refusal for who may not come in. What is asked of the doorman himself, he answers."""
        hosts = given(scope, b"host")
        origins = given(scope, b"origin")
        if len(hosts) != 1 or len(origins) > 1:
            raise MalformedRequest("A request has one Host, and at most one Origin.")
        if not self._keyed and not self._knows(hosts[0]):
            raise HostRefused
        if not origins:
            return None
        host = hosts[0].decode("latin-1").lower()
        origin = origins[0].decode("latin-1").lower()
        allowed = origin in self._origins
        if not allowed and not self._keyed and not self._may_write(scope, origin, host):
            raise OriginRefused
        if allowed and scope["method"] == "OPTIONS" and given(scope, b"access-control-request-method"):
            return _permit()
        return None

    def _knows(self, host: bytes) -> bool:
        """Most requests name the same few hosts: the good ones are judged once."""
        if host in self._hosts:
            return True
        if not self._is_ours(host.decode("latin-1").lower()):
            return False
        if len(self._hosts) < MOST_HOSTS:
            self._hosts.add(host)
        return True

    def _is_ours(self, host: str) -> bool:
        found = _HOST(host)
        if found is None:
            return False
        name = found["address"] or found["name"]
        return _is_loopback(name) or (self._public is not None and name == self._public.hostname)

    def _may_write(self, scope: Scope, origin: str, host: str) -> bool:
        if scope["method"] in SAFE or scope["path"].startswith(CALLBACKS):
            return True
        own = {f"http://{host}", f"https://{host}"}
        if self._public:
            own.add(f"{self._public.scheme}://{self._public.netloc}")
        return origin in own


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _permit() -> Response:
    """Whoever is allowed may send what there is to be sent."""
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ACCEPTED,
            "Access-Control-Max-Age": "600",
        },
    )
