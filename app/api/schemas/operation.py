"""Probes."""

from __future__ import annotations

from typing import Literal

from app.api.schemas.base import Out


class Health(Out):
    """All is well."""

    status: Literal["ok"]
