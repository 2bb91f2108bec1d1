"""All operations, in the order in which a path is tried: the busiest first."""

from __future__ import annotations

from starlette.routing import BaseRoute

from app.api.routes import definitions, events, messages, operation, workflows


def routes() -> list[BaseRoute]:
    return [
        *workflows.router.routes,
        *events.router.routes,
        *messages.router.routes,
        *messages.callbacks.routes,
        *definitions.router.routes,
        *operation.router.routes,
    ]
