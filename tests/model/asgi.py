"""A client of an application in this process. It can stay away from an answer, and go away in the middle of one."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message

PATIENCE = 30.0
NOTHING = object()
"""Stands for no body; None is null."""


class Lost(Exception):
    """The replica was killed before it had answered."""


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    repeated: bool = False
    """The first time it was a 503, after which nobody knows what was done."""

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        return self.json["code"] if self.headers.get("content-type") == "application/problem+json" else None


class Exchange:
    """One request over ASGI. A client that has `enough` of an answer goes away."""

    def __init__(
        self,
        method: str,
        target: str,
        body: Any = NOTHING,
        *,
        headers: Mapping[str, str] | None = None,
        enough: Callable[[Answer], bool] | None = None,
    ) -> None:
        self._method, self._target, self._enough = method, target, enough
        self._body = b"" if body is NOTHING else json.dumps(body).encode()
        self._headers = {"host": "localhost", **(headers or {})}
        if body is not NOTHING:
            self._headers |= {"content-type": "application/json", "content-length": str(len(self._body))}
        self._sent, self._gone = False, asyncio.Event()
        self.answer = Answer()

    def leave(self) -> None:
        self._gone.set()

    async def with_(self, app: Callable[..., Awaitable[None]]) -> Answer:
        path, _, query = self._target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self._headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        await app(scope, self._receive, self._send)
        return self.answer

    async def _receive(self) -> Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.answer.text += message.get("body", b"").decode()
        if self._enough is not None and self._enough(self.answer):
            self._gone.set()


def answered(asked: "Future[Answer]") -> Answer:
    """Raises Lost when the replica has died meanwhile."""
    try:
        answer = asked.result(PATIENCE)
    except CancelledError:
        raise Lost from None
    if not answer.status:
        raise Lost
    return answer
