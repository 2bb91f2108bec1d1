"""How the server closes: whoever has connected by then is answered, and what is idle ends at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app import server
from tests.support.waiting import eventually
from tests.system.test_connections import HOST, Site

ASK = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    serving = asyncio.create_task(site.server.serve([site.listener]))
    await site.started.wait()
    yield site
    site.server.leave()
    await asyncio.wait_for(serving, server.CLOSING / 2)


async def test_who_has_connected_and_not_asked_yet_is_answered_all_the_same(site: Site):
    async with site.connection() as idle, site.connection() as silent, site.connection() as asking:
        idle[1].write(ASK)
        assert (await idle[0].readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")
        asking[1].write(ASK[:10])
        await eventually(lambda: site.connections == 3)
        site.server.leave()
        assert await idle[0].read() == b"", "one that was answered and asks nothing is closed"
        silent[1].write(ASK)
        asking[1].write(ASK[10:])
        for reader, _ in (silent, asking):
            assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")


async def test_who_never_asks_does_not_hold_it_up(site: Site):
    """The fixture gives it little time to end."""
    async with site.connection() as (reader, _):
        await eventually(lambda: site.connections == 1)
        site.server.leave()
        assert await reader.read() == b""
