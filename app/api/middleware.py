"""What is done to every request and answer, as plain ASGI.

Frameworks' function middlewares run the endpoint in a task of its own, behind which a disconnect is never seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from itertools import count

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import telemetry
from app.api import problems
from app.api.access import OWNER
from app.api.request import ONLY_LOOKS, given, raw_path
from app.errors import BodyTooLarge, InternalError, Refusal
from app.http.exchange import WHOLE

DEFAULT_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
LINGER = 2.0
"""Seconds for the rest of a body that is too large."""
NO_BODY = frozenset({"GET", "DELETE"})
"""Methods whose operations read no body."""
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}").fullmatch
_PROCESS = os.urandom(8).hex().encode()
"""How the ids that this process makes begin."""
_numbers = count(1)
_log = telemetry.logger(__name__)


class Frame:
    """The outermost: request id, headers of every answer, HEAD as a GET that only looks, and 500 for the unforeseen."""

    def __init__(self, app: ASGIApp, *, draining: Callable[[], bool]) -> None:
        self._app, self._draining = app, draining
        self._tells = _log.is_enabled_for(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(receive, send, _request_id(scope), self._draining)
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET", ONLY_LOOKS: True}
            answer.without_body = True
        began = time.perf_counter()
        try:
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            return
        except Refusal as refusal:
            await _answer_unless_begun(answer, problems.respond(refusal, scope), scope, receive)
        except Exception:
            _log.exception("a request broke", **answer.about(method, scope))
            await _answer_unless_begun(answer, problems.respond(InternalError(), scope), scope, receive)
        finally:
            if self._tells:
                about = answer.about(method, scope)
                if OWNER in scope:
                    about["key"] = scope[OWNER]
                _log.debug("answered", status=answer.status, ms=round((time.perf_counter() - began) * 1000, 1), **about)


class Answer:
    """The sending side of one request."""

    __slots__ = ("_draining", "_receive", "_send", "request_id", "status", "without_body")

    def __init__(self, receive: Receive, send: Send, request_id: bytes, draining: Callable[[], bool]) -> None:
        self._receive, self._send, self._draining = receive, send, draining
        self.request_id = request_id
        self.without_body = False
        self.status = 0

    def about(self, method: str, scope: Scope) -> dict[str, str]:
        """What a log line tells of the request."""
        return {"request_id": self.request_id.decode(), "method": method, "path": raw_path(scope)}

    async def send(self, message: Message) -> None:
        if "status" in message:
            message = self._framed(message)
        elif self.without_body:
            message = {**message, "body": b""}
        if self.status == BodyTooLarge.status and "body" in message:
            await self._send_and_linger(message)
        else:
            await self._send(message)

    def _framed(self, message: Message) -> Message:
        self.status = message["status"]
        # A page that posts a form needs another policy of its own: with this one its Origin would be null.
        present = dict(message["headers"])
        missing = [header for header in DEFAULT_HEADERS if header[0] not in present]
        # An answer may be sent more than once, so its own list stays as it is.
        headers = [*message["headers"], *missing, (b"x-request-id", self.request_id)]
        if self._draining() or self.status == BodyTooLarge.status:
            headers.append((b"connection", b"close"))
        return {**message, "headers": headers}

    async def _send_and_linger(self, message: Message) -> None:
        if message["type"] == WHOLE:
            await self._send({**message, "type": "http.response.start"})
        await self._send({"type": "http.response.body", "body": message["body"], "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b""})

    async def _linger(self) -> None:
        """Let what is still on its way arrive, to no use.

        A connection that is closed before is reset, and clients that are still sending never get to the answer.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await self._receive()).get("more_body"):
                    pass


class BodyLimit:
    """Refuses a body that is too large: by its declared length, else before it is read to the end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def limited(self, scope: Scope, receive: Receive) -> Receive:
        """What the body is to be read by."""
        declared = given(scope, b"content-length")
        # The server holds a body to its declared length.
        if declared and not self._allows(declared[0]):
            raise self._refusal()
        if declared or scope["method"] in NO_BODY:
            return receive
        read = 0

        async def receive_some() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise self._refusal()
            return message

        return receive_some

    def _allows(self, length: bytes) -> bool:
        return length.isdigit() and len(length) <= len(str(self._limit)) and int(length) <= self._limit

    def _refusal(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body may have {self._limit} bytes.")


def _request_id(scope: Scope) -> bytes:
    for sent in given(scope, b"x-request-id"):
        if _REQUEST_ID(sent):
            return sent
    return b"%s%016x" % (_PROCESS, next(_numbers))


async def _answer_unless_begun(answer: Answer, response: ASGIApp, scope: Scope, receive: Receive) -> None:
    if not answer.status:
        await response(scope, receive, answer.send)
