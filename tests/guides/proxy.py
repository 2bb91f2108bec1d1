"""A proxy as one has them before a service: it cuts what is silent for long, and now and then something breaks.

Its clock is quicker than ours, so that nobody waits for half a minute: `timeout=25` of a request is one second for the
service, and what is silent for three seconds is cut. A program that asks for longer, or for no time at all, is cut.
"""

import re
import select
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

SILENCE = 3.0
PROMPT = 0.3


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    outcome: str
    """The status of the answer; or `lost`, which the service has given and the client has not had; or `cut`."""


@dataclass
class Proxy:
    service: str
    """Where the service is, as host:port."""
    faults: list[str] = field(default_factory=list)
    """What the next requests meet, one each: `pass`, `lost` (the answer), `cut` (without one), or a status."""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def outcomes(self, part: str) -> list[str]:
        """What came of the requests for something."""
        return [asked.outcome for asked in self.asked if part in asked.target]


@contextmanager
def proxy(service: str, faults: list[str]) -> Iterator[Proxy]:
    """A proxy before the service with this URL."""
    seen = Proxy(service.removeprefix("http://"), faults)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):
                _pass_on(seen, self.request)

    with _Server(("127.0.0.1", 0), Handler) as server:
        seen.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


def _pass_on(proxy: Proxy, client: socket.socket) -> None:
    """One request and its answer; the client connects anew for the next."""
    request = _read(client)
    if not request:
        return
    method, target = request.split(b" ")[:2]
    fault = proxy.faults.pop(0) if proxy.faults else "pass"
    outcome = fault
    if fault.isdigit():
        client.sendall(
            f"HTTP/1.1 {fault} Broken\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
    else:
        outcome = _forward(proxy.service, _hastened(request), client, fault)
    if outcome in ("lost", "cut"):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    proxy.asked.append(Asked(method.decode(), target.decode(), outcome))


def _read(client: socket.socket) -> bytes:
    """A request as a whole."""
    request = b""
    while (end := request.find(b"\r\n\r\n")) < 0:
        if not (data := client.recv(65_536)):
            return b""
        request += data
    named = re.search(rb"(?i)\r\ncontent-length: *(\d+)", request[:end])
    while len(request) < end + 4 + int(named[1] if named else 0):
        request += client.recv(65_536)
    return request


def _hastened(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    kept = [header for header in headers if not re.match(rb"(?i)(connection|keep-alive):", header)]
    line = line.replace(b"timeout=25", b"timeout=1")
    return b"\r\n".join([line, *kept, b"Connection: close", b"", body])


def _refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status} Broken\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _forward(service: str, request: bytes, client: socket.socket, fault: str) -> str:
    """What came of it."""
    host, _, port = service.partition(":")
    try:
        upstream = socket.create_connection((host, int(port)))
    except ConnectionError:
        client.sendall(_refusal("502"))
        return "502"
    with upstream:
        upstream.sendall(request)
        answer = b""
        while select.select([upstream, client], [], [], PROMPT if fault == "cut" else SILENCE)[0]:
            try:
                data = upstream.recv(65_536)
            except ConnectionError:
                return "cut"
            if not data:
                return fault if fault in ("lost", "cut") else answer[9:12].decode() or "cut"
            answer += data
            if fault == "pass":
                client.sendall(data)
        return "cut"
