"""The API as one ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from app.api import openapi, problems, router
from app.api.access import Gate, doors
from app.api.doorman import Doorman, Sharing
from app.api.middleware import BodyLimit, Frame
from app.api.options import Options
from app.errors import Refusal

if TYPE_CHECKING:
    from app.engine.runtime import Runtime


class Application(FastAPI):
    """FastAPI, with the document of our own making."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi.describe(self.routes, self.state.runtime.registry)
        return self.openapi_schema


def build(
    runtime: Runtime, *, pages: list[BaseRoute] | None = None, only_probes: bool = False, **options: Any
) -> ASGIApp:
    """The application over a runtime that someone else starts and stops.

    `pages` are served besides, stand in no document and need no key; `options` are those of `Options`.
    """
    given = Options(**options)
    served = router.probes() if only_probes else router.routes()
    besides = [] if only_probes else pages or []
    entrances = doors(served, besides)
    app = Application(
        openapi_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(Sharing, cors_origins=given.cors_origins),
            Middleware(Frame, draining=lambda: runtime.draining),
            Middleware(
                Doorman, public_url=given.public_url, cors_origins=given.cors_origins, keyed=given.keys is not None
            ),
            *([Middleware(Gate, keys=given.keys, doors=entrances)] if given.keys is not None else []),
            Middleware(BodyLimit, limit=given.max_body_bytes),
        ],
        exception_handlers={Refusal: problems.refused, HTTPException: problems.from_router},
    )
    app.state.runtime, app.state.options, app.state.described = runtime, given, {}
    # Not `include_router`: its indirection is passed by each request.
    app.router.routes = [*served, *besides]
    return app
