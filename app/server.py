"""The HTTP server: uvicorn, started from code, with the three things it lacks.

It drains: at the first SIGTERM or SIGINT the requests that wait are answered first, while the
server still runs; then it closes as uvicorn does. A second signal ends the process at once, which
loses nothing, as a crash does.

It gives a request a time to arrive in and a size to keep to, see `Protocol`. What is closed
here was never a request that the application could have seen, so it gets a bare status line.

And it shares a listening socket fairly with other processes, see `Acceptor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from http import HTTPStatus
from types import FrameType
from typing import Final, NoReturn, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app import telemetry
from app.clients import AttentiveProtocol, mind_the_silent

log = telemetry.logger(__name__)

RECEIVE_TIMEOUT: Final = 10.0
LONGEST_HEAD: Final = 100 * 1024
MOST_FIELDS: Final = 1000
# The parser's own limit: it counts the places in a URL in 16 bits.
LONGEST_URL: Final = 65_535
_KEEP_ALIVE: Final = 75
_BACKLOG: Final = 2048
# Answers that are on their way when the server closes get this long to go out.
CLOSING: Final = 5
# Who has connected and not asked yet when the server closes, gets this long to do so.
_LAST_CALL: Final = 0.5
_TURN: Final = 0.001
_RECOVERY: Final = 1.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Application = Callable[..., Awaitable[None]]


class Server(uvicorn.Server):
    """Serves `app` until a signal.

    `started` is called when requests are taken, `drain` is awaited before anything is closed. `shared`: other
    processes take connections from the same sockets.
    """

    def __init__(
        self,
        app: Application,
        drain: Callable[[], Awaitable[None]],
        started: Callable[[], None],
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=CLOSING,
            )
        )
        self._drain, self._started, self._shared = drain, started, shared
        self._acceptors: list[Acceptor] = []
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or []:
            mind_the_silent(listener)
        if self._shared:
            await super().startup([])
            self._acceptors = [
                Acceptor(listener, self._connection, lambda: len(self.server_state.connections))
                for listener in sockets or []
            ]
        else:
            await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop_accepting()
        for acceptor in self._acceptors:
            await acceptor.idle()
        await super().shutdown(sockets)

    def _connection(self) -> Protocol:
        return Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _stop_accepting(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but a signal that was obeyed is not raised again: the exit code is 0."""
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._draining is not None:
            signal.signal(sig, signal.SIG_DFL)
            os.kill(os.getpid(), sig)
        else:
            self._loop.call_soon_threadsafe(self.leave)

    def abandon(self) -> None:
        """Begin to drain, and leave the address to others at once."""
        self._stop_accepting()
        self.leave()

    def leave(self) -> None:
        """Begin to drain; the server closes when that is done."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._leave(), name="drain")

    async def _leave(self) -> None:
        for connection in list(self.server_state.connections):
            connection.shutdown()  # idle ones close; what is being answered closes after its answer
        try:
            await self._drain()
        finally:
            self.should_exit = True


class Acceptor:
    """Takes connections from a listening socket that several processes share.

    Left to itself, a process that is awake takes all that have come at once, and the others get none. So this one takes
    a turn, a few connections in proportion to those that it has, and then lets the others have theirs. Connections
    that nobody has taken yet stay with the socket, whichever process ends.
    """

    def __init__(
        self, listener: socket.socket, connection: Callable[[], asyncio.Protocol], open_ones: Callable[[], int]
    ) -> None:
        self._listener, self._connection, self._open_ones = listener, connection, open_ones
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._welcomes: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        listener.listen(_BACKLOG)
        self._open()

    def close(self) -> None:
        """Take whoever has come, and then no more: this may be the last process that does. May be called twice."""
        if self._listener.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._take(_BACKLOG)
        self._listener.close()

    async def idle(self) -> None:
        """Returns when all who were taken are connections of the server."""
        await asyncio.gather(*self._welcomes)

    def _open(self) -> None:
        self._loop.add_reader(self._listener, self._take_turn)

    def _take_turn(self) -> None:
        self._loop.remove_reader(self._listener)
        there_is_room = self._take(1 + self._open_ones() // 16)
        self._pause = self._loop.call_later(_TURN if there_is_room else _RECOVERY, self._open)

    def _take(self, most: int) -> bool:
        """Take so many connections, if they are there; False: this process, or the machine, can have no more."""
        for _ in range(most):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.warning("no more connections can be taken for now", error=error.strerror)
                return False
            welcome = self._loop.create_task(self._welcome(connection), name="welcome")
            self._welcomes.add(welcome)
            welcome.add_done_callback(self._welcomes.discard)
        return True

    async def _welcome(self, connection: socket.socket) -> None:
        # One that has gone again is nobody's business.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._connection, connection)


class Protocol(AttentiveProtocol):
    """One connection, whose requests must arrive in time and keep to a size.

    The time runs from the connection's or the request's first byte to the request's last. It does
    not run while nothing is asked (that is the keep-alive's), while an earlier request on the same
    connection is at work, or while it is we who do not read.
    """

    _receiving = True
    """A request is being received, or the connection's first one is awaited."""
    _asked = False
    """Its request line has come, at least in part."""
    _in_head = False
    """Its head has begun and has no end yet."""
    _latest: RequestResponseCycle | None = None
    """What answers the last request that has a whole head."""
    _head_size = 0
    _fields_size = 0
    _refusal: HTTPStatus = HTTPStatus.BAD_REQUEST
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        in_head = self._in_head
        if not self._receiving and not self._at_work():
            self._receiving, self._asked = True, False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if in_head and self._in_head:
            # All of it belongs to a head that has no end yet, maybe to a line that `on_header` was not told of.
            self._head_size += len(data)
            if self._head_size > LONGEST_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._receiving and self._deadline is None:
            self._arm()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving, self._asked, self._in_head = True, False, True
        self._head_size = self._fields_size = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._asked = True
        if len(self.url) > LONGEST_URL:
            self._break_off(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._fields_size += len(name) + len(value) + len(": \r\n")
        if self._fields_size > LONGEST_HEAD or len(self.headers) > MOST_FIELDS:
            self._break_off(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._latest, self._in_head = self.cycle, False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._receiving = False
        self._disarm()

    def shutdown(self) -> None:
        """Close when what was asked is answered. Who has just come, or is in the middle of asking, is heard."""
        if self._receiving and not self._at_work():
            self.loop.call_later(_LAST_CALL, super().shutdown)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """The parser gave up, by itself or because we broke it off."""
        self._refuse(self._refusal)

    def _break_off(self, status: HTTPStatus) -> NoReturn:
        """Stop the parser from within; it then calls `send_400_response`."""
        self._refusal = status
        raise ValueError(status.phrase)

    def _refuse(self, status: HTTPStatus) -> None:
        if self._may_answer():
            line = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(line.encode("ascii"))
        self.transport.close()
        self._disarm()

    def _may_answer(self) -> bool:
        """Whether a status line would be read as the answer to what was asked last."""
        if self.pipeline:
            return False
        if self._receiving and self._asked and not self._in_head:
            return self._latest is None or not self._latest.response_started
        return not self._at_work()

    def _at_work(self) -> bool:
        """Whether a request with a whole head waits for the end of its answer."""
        return self._latest is not None and not self._latest.response_complete

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(RECEIVE_TIMEOUT, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused or self.pipeline or (self._in_head and self._at_work()):
            self._arm()
        elif self._asked:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()
