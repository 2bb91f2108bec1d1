"""HTTP to the outside: the only place that makes clients."""

from __future__ import annotations

import httpx


class _Shared(httpx.AsyncHTTPTransport):
    """A step that closes its client must not close everybody's connections."""

    async def aclose(self) -> None:
        """Left open."""

    async def close(self) -> None:
        await super().aclose()


class Outbound:
    """One pool of connections for all steps of the process."""

    def __init__(self) -> None:
        self._transport: _Shared | None = None

    def client(self, idempotency_key: str) -> httpx.AsyncClient:
        """A client whose requests carry the key; its connections outlive it."""
        if self._transport is None:
            self._transport = _Shared(limits=httpx.Limits(max_connections=200))
        return httpx.AsyncClient(
            transport=self._transport, headers={"Idempotency-Key": idempotency_key}, trust_env=False
        )

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.close()
            self._transport = None
