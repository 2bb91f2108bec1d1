"""HTTP to the outside: the only place that makes clients."""

from __future__ import annotations

import httpx


class Outbound:
    """One pool of connections for all steps of the process."""

    def __init__(self) -> None:
        self._transport: httpx.AsyncHTTPTransport | None = None

    def client(self, idempotency_key: str) -> httpx.AsyncClient:
        """A client whose requests carry the key; its connections outlive it."""
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=200))
        return httpx.AsyncClient(
            transport=self._transport, headers={"Idempotency-Key": idempotency_key}, trust_env=False
        )

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None
