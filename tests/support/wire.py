"""A client that costs little, for what is measured: keep-alive connections, and no more of HTTP than is needed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    at: float
    """When it had arrived, by the clock of the wall."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection; one request after the other."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host, self._reader, self._writer = host, reader, writer

    async def ask(self, method: str, target: str, body: Any = None) -> Answer:
        await self.send(method, target, body)
        return await self.answer()

    async def send(self, method: str, target: str, body: Any = None) -> None:
        text = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n"
        if text:
            head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        self._writer.write(f"{head}\r\n".encode() + text)

    async def answer(self) -> Answer:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        body = await self._reader.readexactly(length)
        return Answer(int(head[9:12]), body, time.time())

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def wires(url: str, count: int) -> AsyncIterator[Sequence[Wire]]:
    """So many connections to a service."""
    address = urlsplit(url)
    opened: list[Wire] = []
    try:
        for _ in range(count):
            streams = await asyncio.open_connection(address.hostname, address.port)
            opened.append(Wire(address.netloc, *streams))
        yield opened
    finally:
        for wire in opened:
            wire.close()
