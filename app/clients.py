"""Clients that are gone, or might as well be: what uvicorn does not notice of them.

A client is not seen to leave while its connection isn't read from, as when it has sent a second request before the
first was answered. Only the last request of a connection is told when the client leaves. And one that reads
nothing keeps its answers in our memory for as long as it likes.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LOOK: Final = 1.0
"""Seconds between looks at whether somebody whom we do not read from is still there."""
READING: Final = 30.0
"""Seconds in which a client has to read so many bytes, or all there is for it."""
READS: Final = 32_768
# Whoever does not answer the network any more is gone after about a minute.
_SILENCE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
# That its end has come is told behind what is unread only by this one, which macOS does not have.
_LEFT: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def mind_the_silent(listener: socket.socket) -> None:
    """Have connections that a listener takes end when nobody is there any more to answer."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SILENCE.items():
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


class AttentiveProtocol(HttpToolsProtocol):
    _working: RequestResponseCycle | None = None
    """The request that is being answered. uvicorn knows the one that came last."""
    _look: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unread = 0
    """Bytes that waited for the client at the last look."""
    _moved = False
    """Something was read, or answered, since."""

    def connection_lost(self, exc: Exception | None) -> None:
        for handle in (self._look, self._reading):
            if handle is not None:
                handle.cancel()
        if self._working is not None and not self._working.response_complete:
            self._working.disconnected = True
            self._working.message_event.set()
        super().connection_lost(exc)
        # Whoever has not begun yet never will.
        self.pipeline.clear()

    # ---- whoever leaves while it is not read from

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.flow.read_paused and self._look is None:
            self._look = self.loop.call_later(LOOK, self._see_whether_it_is_there)

    def _see_whether_it_is_there(self) -> None:
        self._look = None
        if not self.flow.read_paused or self.transport.is_closing():
            return
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _LEFT)
        if poll.poll(0):
            self.transport.abort()
        else:
            self._look = self.loop.call_later(LOOK, self._see_whether_it_is_there)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._working = cycle
        super()._start_asgi_task(cycle, app)

    # ---- whoever does not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._moved = True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._moved = True
        if self.transport.get_write_buffer_size():
            self._expect_reading()

    def _expect_reading(self) -> None:
        if self._reading is None:
            self._unread, self._moved = self.transport.get_write_buffer_size(), False
            self._reading = self.loop.call_later(READING, self._see_what_was_read)

    def _see_what_was_read(self) -> None:
        self._reading = None
        unread = self.transport.get_write_buffer_size()
        if unread > max(0, self._unread - READS) and not self._moved:
            self.transport.abort()
        elif unread:
            self._expect_reading()
