"""Very many connections to a service, of clients that wait, leave, or will not read; and what the service holds."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.service import Service


class Crowd:
    """Raw connections, each with one request that is not answered yet."""

    def __init__(self, service: Service) -> None:
        address = urlsplit(service.url)
        self._address = (str(address.hostname), int(address.port or 80))
        self.connections: list[socket.socket] = []

    async def ask(self, count: int, target: str) -> None:
        """Have so many more ask this, a hundred at a time."""
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        loop = asyncio.get_running_loop()

        async def one() -> None:
            connection = socket.socket()
            connection.setblocking(False)
            self.connections.append(connection)
            await loop.sock_connect(connection, self._address)
            await loop.sock_sendall(connection, request)

        for begin in range(0, count, 100):
            await asyncio.gather(*(one() for _ in range(begin, min(begin + 100, count))))

    def answered(self) -> int:
        """How many have something to read: an answer, or the end."""
        return sum(map(_has_something, self.connections))

    def leave(self, *, abruptly: bool) -> None:
        for connection in self.connections:
            if abruptly:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        self.connections.clear()


@contextmanager
def crowd(service: Service) -> Iterator[Crowd]:
    crowd = Crowd(service)
    try:
        yield crowd
    finally:
        crowd.leave(abruptly=True)


def megabytes(service: Service) -> float:
    """Memory that the process has."""
    (line,) = (line for line in _proc(service, "status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def files(service: Service) -> int:
    """Descriptors that the process has open."""
    return len(list(_proc(service, "fd").iterdir()))


def _proc(service: Service, what: str) -> Path:
    return Path(f"/proc/{service.pid}/{what}")


def _has_something(connection: socket.socket) -> bool:
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True
