"""What goes in and out of a connection, and clients that are gone, or might as well be.

A client is not seen to leave while its connection isn't read from, as when it has sent a second request before the
first was answered. And one that reads nothing keeps its answers in our memory for as long as it likes.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Final

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


class Flow:
    """Both directions of one connection."""

    __slots__ = ("_look", "_loop", "_moved", "_reading", "_transport", "_unread", "_writable", "read_paused")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self.read_paused = False
        self._writable: asyncio.Event | None = None
        """There while nothing more is to be written."""
        self._look: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unread = 0
        """Bytes that waited for the client at the last look."""
        self._moved = False
        """Something was read, or answered, since."""

    def end(self) -> None:
        """The connection is no more."""
        for handle in (self._look, self._reading):
            if handle is not None:
                handle.cancel()
        self._let_write()

    # ---- in: whoever leaves while it is not read from

    def pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()
            if self._look is None:
                self._look = self._loop.call_later(LOOK, self._see_whether_it_is_there)

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def _see_whether_it_is_there(self) -> None:
        self._look = None
        if not self.read_paused or self._transport.is_closing():
            return
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), _LEFT)
        if poll.poll(0):
            self._transport.abort()
        else:
            self._look = self._loop.call_later(LOOK, self._see_whether_it_is_there)

    # ---- out: whoever does not read

    @property
    def write_paused(self) -> bool:
        return self._writable is not None

    async def drain(self) -> None:
        """Returns when there is room for more, or the connection is no more."""
        if self._writable is not None:
            await self._writable.wait()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.Event()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._let_write()
        self._moved = True

    def answered(self) -> None:
        """An answer was written to its end."""
        self._moved = True
        if self._transport.get_write_buffer_size():
            self._expect_reading()

    def _let_write(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def _expect_reading(self) -> None:
        if self._reading is None:
            self._unread, self._moved = self._transport.get_write_buffer_size(), False
            self._reading = self._loop.call_later(READING, self._see_what_was_read)

    def _see_what_was_read(self) -> None:
        self._reading = None
        unread = self._transport.get_write_buffer_size()
        if unread > max(0, self._unread - READS) and not self._moved:
            self._transport.abort()
        elif unread:
            self._expect_reading()
