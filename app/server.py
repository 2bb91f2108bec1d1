"""The HTTP server: uvicorn, started from code, with connections of our own and the two things it lacks.

It drains: at the first SIGTERM or SIGINT the requests that wait are answered first, while the
server still runs; then it closes as uvicorn does. A second signal ends the process at once, which
loses nothing, as a crash does.

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
from types import FrameType
from typing import Final

import uvicorn

from app import telemetry
from app.http.connection import Connection
from app.http.flow import mind_the_silent

log = telemetry.logger(__name__)

_BACKLOG: Final = 2048
# Answers that are on their way when the server closes get this long to go out.
CLOSING: Final = 5
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
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=_BACKLOG,
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

    def _connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

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
