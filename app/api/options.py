"""What the API is told by the settings."""

from __future__ import annotations

from dataclasses import dataclass

from app.keys import Keys


@dataclass(frozen=True, slots=True)
class Options:
    default_timeout: float = 60.0
    max_body_bytes: int = 1_114_112
    public_url: str | None = None
    cors_origins: tuple[str, ...] = ()
    keys: Keys | None = None
    """None: whoever reaches the service may use it."""
