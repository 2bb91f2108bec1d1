"""The API as one ASGI application.

FastAPI's routes say what there is, and it writes the document from them. What is done to a request is a short row
of our own: the path to an endpoint is as long as what it does.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import older, openapi, router
from app.api.access import Gate, doors
from app.api.dispatch import Finder, Table
from app.api.doorman import Doorman, Sharing
from app.api.middleware import BodyLimit, Frame
from app.api.options import Options
from app.api.route import Route

if TYPE_CHECKING:
    from app.engine.runtime import Runtime


class Application:
    """What requests reach as `request.app`."""

    def __init__(self, runtime: Runtime, options: Options, routes: list[BaseRoute], pages: list[BaseRoute]) -> None:
        self.runtime, self.options, self._routes = runtime, options, routes
        self.described: dict[tuple[str, str], str] = {}
        """Definitions as they are shown, by name and version."""
        gate = None if options.keys is None else Gate(options.keys)
        self._doorman = Doorman(
            public_url=options.public_url, cors_origins=options.cors_origins, keyed=gate is not None
        )
        self._finder = Finder(Table(doors(routes, pages)), gate)
        self._bodies = BodyLimit(options.max_body_bytes)
        app: ASGIApp = Frame(self._serve, draining=lambda: runtime.draining)
        self._app = Sharing(app, cors_origins=options.cors_origins) if options.cors_origins else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the frame is around. Each of the row may refuse the request, and none reads any of its body."""
        permit = self._doorman.admit(scope)
        if permit is not None:
            await permit(scope, receive, send)
            return
        route = self._finder.find(scope)
        receive = self._bodies.limited(scope, receive)
        if isinstance(route, Route):
            await route.app(scope, receive, send)
        else:
            await route.handle(scope, receive, send)

    @cached_property
    def document(self) -> dict[str, Any]:
        return openapi.describe(self._routes, self.runtime.registry)

    @cached_property
    def older_document(self) -> dict[str, Any]:
        """The same in OpenAPI 3.0."""
        return older.document(self.document)


def build(
    runtime: Runtime, *, pages: list[BaseRoute] | None = None, only_probes: bool = False, **options: Any
) -> Application:
    """The application over a runtime that someone else starts and stops.

    `pages` are served besides, stand in no document and need no key; `options` are those of `Options`.
    """
    served = router.probes() if only_probes else router.routes()
    return Application(runtime, Options(**options), served, [] if only_probes else pages or [])
