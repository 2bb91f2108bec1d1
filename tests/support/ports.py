"""Ports for what tests start, and a way from one to another."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import make_url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[str]:
    """A proxy that passes all bytes on to a database, as a load balancer does; the URL by which it is reached."""
    server = make_url(url)
    folder = str(server.query.get("host", ""))

    done: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.append(asyncio.Event())
        here = done[-1]
        if folder:
            back, forth = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{server.port or 5432}")
        else:
            back, forth = await asyncio.open_connection(server.host, server.port or 5432)
        await asyncio.gather(_pass_on(reader, forth), _pass_on(back, writer))
        here.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        reached = server.set(host="127.0.0.1", port=port).difference_update_query(["host"])
        yield reached.render_as_string(hide_password=False)
        for connection in done:
            await connection.wait()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
