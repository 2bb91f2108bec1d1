"""One connection: its requests as they arrive, in time and within a size, and what becomes of them.

They are parsed by httptools. What is closed here was never a request that the application could have seen, so it gets
a bare status line.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Any, Final, NoReturn, cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.server import ServerState

from app.http.exchange import EXTENSIONS, Exchange
from app.http.flow import Flow

RECEIVE_TIMEOUT: Final = 10.0
KEEP_ALIVE: Final = 75.0
LONGEST_HEAD: Final = 100 * 1024
MOST_FIELDS: Final = 1000
# The parser's own limit: it counts the places in a URL in 16 bits.
LONGEST_URL: Final = 65_535
# Who has connected and not asked yet when the server closes, gets this long to do so.
_LAST_CALL: Final = 0.5
Address = tuple[str, int]

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class Connection(asyncio.Protocol):
    """What uvicorn makes of each connection; it knows them by `server_state`, and calls `shutdown`.

    A request has a time to arrive in, from the connection's or the request's first byte to the request's last. It does
    not run while nothing is asked (that is the keep-alive's), while an earlier request on the same
    connection is at work, or while it is we who do not read.

    Requests that come before the one ahead of them is answered wait for their turn, and no more is read meanwhile.
    """

    _transport: asyncio.Transport
    _flow: Flow

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app, self._state = config.loaded_app, server_state
        # The type names uvicorn's own alone.
        self._connections = cast("set[Connection]", server_state.connections)
        self._loop = _loop or asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        # What follows a request that was to be the last is nobody's business, and no reason not to answer it.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._server: Address | None = None
        self._client: Address | None = None
        self._receiving = True
        """A request is being received, or the connection's first one is awaited."""
        self._asked = False
        """Its request line has come, at least in part."""
        self._in_head = False
        """Its head has begun and has no end yet."""
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_size = self._fields_size = 0
        self._expects_continue = False
        self._refusal = HTTPStatus.BAD_REQUEST
        self._deadline: asyncio.TimerHandle | None = None
        self._working: Exchange | None = None
        """The request that is being answered."""
        self._latest: Exchange | None = None
        """The last one that has a whole head."""
        self._behind: deque[Exchange] = deque()
        self._idle_until: float | None = None
        self._idle: asyncio.TimerHandle | None = None

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._flow = Flow(self._transport, self._loop)
        self._server, self._client = _address(transport, "sockname"), _address(transport, "peername")
        self._connections.add(self)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._disarm()
        if self._idle is not None:
            self._idle.cancel()
        for exchange in (self._working, self._latest):
            if exchange is not None:
                exchange.leave()
        # Whoever has not begun yet never will.
        self._behind.clear()
        self._flow.end()
        # It refers to this object, as this one does to it.
        self._parser = None

    def data_received(self, data: bytes) -> None:
        self._idle_until = None
        in_head = self._in_head
        if not self._receiving and not self._at_work():
            self._receiving, self._asked = True, False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # It gave up, by itself or because we broke it off.
            self._refuse(self._refusal)
            return
        except httptools.HttpParserUpgrade:
            # To what, does not matter: the request is answered as any other.
            pass
        if self._transport.is_closing():
            return
        if in_head and self._in_head:
            # All of it belongs to a head that has no end yet, maybe to a line that `on_header` was not told of.
            self._head_size += len(data)
            if self._head_size > LONGEST_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._receiving and self._deadline is None:
            self._arm()

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()

    # ---- the parser's side

    def on_message_begin(self) -> None:
        self._receiving, self._asked, self._in_head = True, False, True
        self._url, self._fields = b"", []
        self._head_size = self._fields_size = 0
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._asked = True
        if len(self._url) > LONGEST_URL:
            self._break_off(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        fields, name = self._fields, name.lower()
        fields.append((name, value))
        self._fields_size += len(name) + len(value) + len(": \r\n")
        if self._fields_size > LONGEST_HEAD or len(fields) > MOST_FIELDS:
            self._break_off(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        raw_path, query = self._target()
        path = raw_path.decode("ascii")
        version = self._parser.get_http_version()
        ahead = self._latest
        self._latest = exchange = Exchange(
            {
                "type": "http",
                "asgi": _ASGI,
                "http_version": version,
                "server": self._server,
                "client": self._client,
                "scheme": "http",
                "root_path": "",
                "method": self._parser.get_method().decode("ascii"),
                "path": unquote(path) if "%" in path else path,
                "raw_path": raw_path,
                "query_string": query,
                "headers": self._fields,
                "extensions": EXTENSIONS,
            },
            self._transport,
            self._flow,
            self._answered,
            keep_alive=version != "1.0" and self._parser.should_keep_alive(),
            expects_continue=self._expects_continue,
        )
        # What comes behind the body, as headers do, is none of the request's.
        self._fields = []
        if ahead is None or ahead.complete:
            self._begin(exchange)
        else:
            self._flow.pause_reading()
            self._behind.append(exchange)

    def on_body(self, body: bytes) -> None:
        if self._latest is not None:
            self._latest.add(body)

    def on_message_complete(self) -> None:
        if self._latest is not None:
            self._latest.end()
        self._receiving = False
        self._disarm()

    def _target(self) -> tuple[bytes, bytes]:
        """The path and the query."""
        if self._url.startswith(b"/") and b"#" not in self._url:
            path, _, query = self._url.partition(b"?")
            return path, query
        parsed = httptools.parse_url(self._url)
        if parsed.path is None:
            self._break_off(HTTPStatus.BAD_REQUEST)
        return parsed.path, parsed.query or b""

    # ---- one request after the other

    def _begin(self, exchange: Exchange) -> None:
        self._working = exchange
        tasks = self._state.tasks
        task = self._loop.create_task(exchange.run(self._app))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _answered(self) -> None:
        self._state.total_requests += 1
        self._flow.answered()
        if self._transport.is_closing():
            return
        self._flow.resume_reading()
        if self._behind:
            self._begin(self._behind.popleft())
        else:
            self._rest()

    def _at_work(self) -> bool:
        """Whether a request with a whole head waits for the end of its answer."""
        return self._latest is not None and not self._latest.complete

    def shutdown(self) -> None:
        """Close when what was asked is answered. Who has just come, or is in the middle of asking, is heard."""
        if self._receiving and not self._at_work():
            self._loop.call_later(_LAST_CALL, self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        if self._latest is None or self._latest.complete:
            self._transport.close()
        else:
            self._latest.keep_alive = False

    # ---- while nothing is asked

    def _rest(self) -> None:
        """Wait for the next request. A timer for each time would cost as much as all the rest that is done here: there
        is one, which looks when it was last set for, and is set anew for what has been put off meanwhile."""
        self._idle_until = self._loop.time() + KEEP_ALIVE
        if self._idle is None:
            self._idle = self._loop.call_at(self._idle_until, self._end_rest)

    def _end_rest(self) -> None:
        self._idle = None
        if self._idle_until is None:
            return
        if self._loop.time() < self._idle_until:
            self._idle = self._loop.call_at(self._idle_until, self._end_rest)
        else:
            self._transport.close()

    # ---- while a request is received

    def _arm(self) -> None:
        self._deadline = self._loop.call_later(RECEIVE_TIMEOUT, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._transport.is_closing():
            return
        if self._flow.read_paused or self._behind or (self._in_head and self._at_work()):
            self._arm()
        elif self._asked:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._transport.close()

    # ---- what is no request

    def _break_off(self, status: HTTPStatus) -> NoReturn:
        """Stop the parser from within, and refuse with this."""
        self._refusal = status
        raise ValueError(status.phrase)

    def _refuse(self, status: HTTPStatus) -> None:
        if self._may_answer():
            line = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self._transport.write(line.encode("ascii"))
        self._transport.close()
        self._disarm()

    def _may_answer(self) -> bool:
        """Whether a status line would be read as the answer to what was asked last."""
        if self._behind:
            return False
        if self._receiving and self._asked and not self._in_head:
            return self._latest is None or not self._latest.started
        return not self._at_work()


def _address(transport: asyncio.BaseTransport, which: str) -> Address | None:
    """Host and port: of IPv6 there is more."""
    address = transport.get_extra_info(which)
    return address[:2] if address else None
