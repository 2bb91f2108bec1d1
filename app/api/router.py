"""All operations, in the order in which a path is tried: the busiest first."""

from __future__ import annotations

from starlette.routing import BaseRoute

from app.api.routes import definitions, events, messages, operation, workflows


def probes() -> list[BaseRoute]:
    """What a process serves that takes no requests of clients: how it is, and what its refusals mean."""
    return [*operation.probes.routes]


def routes() -> list[BaseRoute]:
    return [
        *workflows.router.routes,
        *events.router.routes,
        *messages.router.routes,
        *messages.callbacks.routes,
        *definitions.router.routes,
        *operation.probes.routes,
        *operation.router.routes,
    ]
