"""The shipped workflows, models of how to write one. Importing this package registers them.

They are written as a user's own are, and import nothing of Milepost but `app`. What they need of
the service that serves them is two calls: `prepare` makes their tables, `routes` are the pages of
the payment provider that `checkout` works with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.workflows import checkout, provider, report
from app.workflows.provider import routes

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["checkout", "prepare", "provider", "report", "routes"]


async def prepare(connection: AsyncConnection[Any]) -> None:
    """Make the examples' tables where they are missing, inside a transaction of the caller's."""
    await checkout.prepare(connection)
    await provider.prepare(connection)
