"""One request and its answer, as an ASGI application sees them.

An answer that is whole when it begins, and most are, goes out by one message (`WHOLE`) and in one piece. That is an
extension of ASGI, whose own way takes two messages, and each piece that is written costs a call of the system.
Who wants to know whether it is there looks for its name among the scope's `extensions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any, Final

from app import telemetry
from app.http.flow import Flow

log = telemetry.logger(__name__)

WHOLE: Final = "milepost.response.whole"
"""A message of `status`, `headers` (the length among them, names in small letters) and `body`."""
EXTENSIONS: Final[dict[str, dict[str, Any]]] = {WHOLE: {}}

MOST_UNREAD: Final = 65_536
"""Bytes of a body that wait for the application, before no more is read from the connection."""
ONE_PIECE: Final = 65_536
"""A body of so many bytes is no more copied behind its head."""

Message = MutableMapping[str, Any]
Field = tuple[bytes, bytes]
Application = Callable[..., Awaitable[None]]

_LAST: Final = (b"connection", b"close")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x09})
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Exchange:
    """What `Connection` makes of a request's head. The body is added as it arrives, and `answered` called at the end
    of the answer."""

    __slots__ = (
        "_answered",
        "_chunked",
        "_expects_continue",
        "_flow",
        "_head",
        "_left",
        "_news",
        "_parts",
        "_size",
        "_taken",
        "_transport",
        "_whole",
        "complete",
        "gone",
        "keep_alive",
        "scope",
        "started",
    )

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        transport: asyncio.Transport,
        flow: Flow,
        answered: Callable[[], None],
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.scope, self.keep_alive = scope, keep_alive
        self.started = self.complete = False
        """The answer."""
        self.gone = False
        """The client."""
        self._transport, self._flow, self._answered = transport, flow, answered
        self._expects_continue = expects_continue
        self._parts: list[bytes] = []
        self._size = 0
        self._whole = False
        """The request has been received to its end."""
        self._taken = False
        """The application has all of it."""
        self._news: asyncio.Event | None = None
        self._head = b""
        """What was begun and is not written yet: it goes out with the first of the body."""
        self._chunked = False
        self._left: int | None = None
        """Bytes of the answer's body that are to come by the length that it was given."""

    async def run(self, app: Application) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            log.exception("the application broke")
            await self._fail()
        else:
            if not self.complete and not self.gone:
                log.error("the application did not answer to the end")
                await self._fail()

    # ---- the request

    def add(self, part: bytes) -> None:
        """The next part of the body."""
        if not self.complete:
            self._parts.append(part)
            self._size += len(part)
            if self._size > MOST_UNREAD:
                self._flow.pause_reading()
            self._tell()

    def end(self) -> None:
        """The body's end."""
        self._whole = True
        self._tell()

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self._tell()

    async def receive(self) -> Message:
        if self._expects_continue:
            self._expects_continue = False
            if not self.started and not self._transport.is_closing():
                self._transport.write(_CONTINUE)
        while not self.gone and not self.complete:
            self._flow.resume_reading()
            if self._parts or (self._whole and not self._taken):
                return self._next()
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()
            self._news.clear()
        return {"type": "http.disconnect"}

    def _next(self) -> Message:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._size, self._taken = [], 0, self._whole
        return {"type": "http.request", "body": body, "more_body": not self._whole}

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    # ---- the answer

    async def send(self, message: Message) -> None:
        if self._flow.write_paused:
            await self._flow.drain()
        if self.gone:
            return
        kind = message["type"]
        if kind == WHOLE and not self.started:
            self._answer(message["status"], message["headers"], message["body"])
        elif kind == "http.response.start" and not self.started:
            self._begin(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.started and not self.complete:
            self._continue(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind!r} is not what comes next in an answer")

    def _answer(self, status: int, fields: Sequence[Field], body: bytes) -> None:
        if _LAST in fields:
            self.keep_alive = False
        elif not self.keep_alive:
            fields = [*fields, _LAST]
        head = _head(status, fields)
        self.started = True
        self._write(head, b"" if self.scope["method"] == "HEAD" else body)
        self._finish()

    def _begin(self, status: int, fields: Iterable[Field]) -> None:
        sent: list[Field] = []
        for given, value in fields:
            name = given.lower()
            if name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            if name == b"content-length":
                self._left = int(value)
            sent.append((name, value))
        if self._left is None and status not in _BODILESS and self.scope["method"] != "HEAD":
            # Whom no chunks can be sent to, is told the end by that of the connection.
            self._chunked = self.scope["http_version"] == "1.1"
            if self._chunked:
                sent.append((b"transfer-encoding", b"chunked"))
        if not self.keep_alive:
            sent.append(_LAST)
        self._head = _head(status, sent)
        self.started = True

    def _continue(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._chunked:
            body = _chunk(body) if more else _chunk(body) + b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body is not as long as was said")
        head, self._head = self._head, b""
        self._write(head, body)
        if not more:
            self._finish()

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) < ONE_PIECE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def _finish(self) -> None:
        self.complete = True
        self._tell()
        if not self.keep_alive:
            self._transport.close()
        self._answered()

    async def _fail(self) -> None:
        if self.started:
            self._transport.close()
        else:
            fields = [(b"content-length", b"0"), _LAST]
            await self.send({"type": WHOLE, "status": 500, "headers": fields, "body": b""})


def _head(status: int, fields: Sequence[Field]) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    # Each line has the two at its end and no more: nobody can put another header, or an answer, into one.
    if len(lines.translate(None, _CONTROLS)) != len(lines) - 2 * len(fields):
        raise RuntimeError("a header has a control character in it")
    return b"%b%b\r\n" % (_preface(status, int(time())), lines)


@lru_cache(maxsize=100)
def _preface(status: int, second: int) -> bytes:
    """The lines that are the same in all answers of this status and second."""
    date = formatdate(second, usegmt=True)
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {date}\r\n".encode("ascii")


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""
