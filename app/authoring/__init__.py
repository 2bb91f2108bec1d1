"""What workflow authors write with: definitions, steps, the context. `app` re-exports it."""

from app.authoring.context import Context, Handle
from app.authoring.definitions import Definition, Registry

__all__ = ["Context", "Definition", "Handle", "Registry"]
