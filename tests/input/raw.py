"""Requests as bytes, and their answers: nothing is tidied up on the way, as clients do."""

import json
import re
import socket
from dataclasses import dataclass, field
from typing import Any, Self

HOST = b"Host: localhost"
JSON = b"Content-Type: application/json"
CANARY = "c4n4ry"
"""Stands in values that are refused, or are nobody's business: it is in no problem and in no log."""


@dataclass(frozen=True)
class Case:
    """One bad (or strange, and good) request, and what it gets.

    `code` is that of the problem: None where the request is answered as any other, or where the HTTP layer closes
    with a bare status. `place` is what the problem must name: a pointer, or a parameter where it has no slash.
    """

    id: str
    target: bytes
    status: int
    code: str | None = None
    place: str | None = None
    method: bytes = b"GET"
    headers: tuple[bytes, ...] = (HOST,)
    body: bytes | None = None
    raw: bytes | None = None
    """The whole request, in place of what it would be made from."""
    closes: bool = False
    says: bytes = b""
    """Something that the answer has in it."""

    def request(self) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [self.method + b" " + self.target + b" HTTP/1.1", *self.headers]
        if self.body is not None:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.body or b"")


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        found = [value for given, value in self.headers if given == name]
        assert len(found) < 2, f"{name} stands {len(found)} times in the answer"
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def media_type(self) -> str | None:
        given = self.header("content-type")
        return given and given.partition(";")[0]


class Connection:
    """One connection to the service, on which answers are read to the byte."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, method: bytes = b"GET") -> Answer:
        """The next answer; raises EOFError when the connection is closed instead."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", line)
        assert found, f"no status line: {line!r}"
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        answer = Answer(int(found[1]), headers, b"")
        if method == b"HEAD" or answer.status in (204, 304):
            return answer
        if answer.header("transfer-encoding") == "chunked":
            answer.body = self._chunks()
        else:
            answer.body = self._exactly(int(answer.header("content-length") or 0))
        return answer

    def closed(self) -> bool:
        """Whether the other side closes now, and says nothing more."""
        try:
            return not self._rest and not self._socket.recv(1)
        except ConnectionError:
            return True

    def _chunks(self) -> bytes:
        whole = b""
        while True:
            while b"\r\n" not in self._rest:
                self._more()
            size, _, self._rest = self._rest.partition(b"\r\n")
            chunk = self._exactly(int(size, 16) + 2)
            if not int(size, 16):
                return whole
            whole += chunk[:-2]

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        whole, self._rest = self._rest[:size], self._rest[size:]
        return whole

    def _more(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise EOFError
        self._rest += data
