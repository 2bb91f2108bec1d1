"""The way from one replica to PostgreSQL: a TCP relay on which the network's faults are played.

It knows a little of PostgreSQL's protocol: the name that a session gives itself, when a session is ready, and which
bytes are a notification. What is held back is not lost: it arrives when the line is whole again, as it does in life.
"""

import asyncio
import random
import struct
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import cast

_NAME = b"application_name\0"
_NOTIFICATION = b"A"


class Way(StrEnum):
    UP = "up"
    """From the replica to the database."""
    DOWN = "down"


class Cut(StrEnum):
    BEFORE = "before"
    """The statement does not arrive."""
    AFTER = "after"
    """It is carried out, and its answer does not arrive."""


class Link:
    """One session: a connection on each side, and what is on its way."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self.duty = ""
        self.ready = False
        self.deaf = False
        """The server's side is gone, and the client does not know."""
        self._doomed = False
        self._ends: dict[Way, asyncio.Transport | None] = {Way.UP: None, Way.DOWN: None}
        self._queues: dict[Way, deque[tuple[float, bytes]]] = {Way.UP: deque(), Way.DOWN: deque()}
        self._timers: dict[Way, asyncio.TimerHandle | None] = {Way.UP: None, Way.DOWN: None}
        self._rest = b""

    def opened(self, way: Way, transport: asyncio.Transport) -> None:
        self._ends[way] = transport
        self.release()

    def came(self, way: Way, data: bytes) -> None:
        if way is Way.UP:
            if self.ready and self._proxy.wants_cut(self, data):
                if self._proxy.cut is Cut.BEFORE:
                    self.abort()
                    return
                self._doomed = True
        else:
            if self._doomed:  # The answer: so it was carried out.
                self.abort()
                return
            self.ready = self.ready or data[-6:-5] == b"Z"
            if (place := data.rfind(_NAME)) >= 0:  # The server tells it whenever it changes.
                self.duty = data[place + len(_NAME) :].partition(b"\0")[0].decode(errors="replace")
            if self._proxy.swallows and self.duty.endswith("listener"):
                data = self._without_notifications(data)
        if not data or self.deaf:
            return
        queue, due = self._queues[way], asyncio.get_running_loop().time()
        if self._proxy.delay is not None:
            middle, spread = self._proxy.delay
            due = max(due + random.uniform(middle - spread, middle + spread), queue[-1][0] if queue else 0.0)
        if way in self._proxy.held:
            self._proxy.kept += 1
        queue.append((due, data))
        self._pump(way)

    def _pump(self, way: Way) -> None:
        """Send what is due, in its order, as far as the line is whole."""
        loop, queue, end = asyncio.get_running_loop(), self._queues[way], self._ends[way]
        while queue and end is not None and not end.is_closing() and way not in self._proxy.held:
            wait = queue[0][0] - loop.time()
            if wait > 0:
                if self._timers[way] is None:
                    self._timers[way] = loop.call_later(wait, self._rang, way)
                return
            end.write(queue.popleft()[1])

    def _rang(self, way: Way) -> None:
        self._timers[way] = None
        self._pump(way)

    def release(self) -> None:
        for way in Way:
            self._pump(way)

    def lost(self, way: Way) -> None:
        """The side that data on this way come from has closed."""
        if self.deaf or self._proxy.held:
            # Nobody is told yet.
            self._proxy.later.append(self.abort)
            return
        other = self._ends[way]
        if other is not None and not other.is_closing():
            other.close()
        self._proxy.links.discard(self)

    def half_open(self) -> None:
        """The server's side goes away, and the client's does not hear of it."""
        self.deaf = True
        end = self._ends[Way.UP]
        if end is not None:
            end.abort()

    def abort(self) -> None:
        for end in self._ends.values():
            if end is not None:
                end.abort()
        self._proxy.links.discard(self)

    def _without_notifications(self, data: bytes) -> bytes:
        data, kept = self._rest + data, []
        while len(data) >= 5:
            length = 1 + struct.unpack_from("!I", data, 1)[0]
            if len(data) < length:
                break
            message, data = data[:length], data[length:]
            if message[:1] == _NOTIFICATION:
                self._proxy.swallowed += 1
            else:
                kept.append(message)
        self._rest = data
        return b"".join(kept)


class _Side(asyncio.Protocol):
    def __init__(self, link: Link, way: Way, connected: Callable[[], None] | None = None) -> None:
        self._link, self._way, self._connected = link, way, connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What comes from the client goes up; so the client's end is where things come down.
        self._link.opened(Way.DOWN if self._way is Way.UP else Way.UP, cast("asyncio.Transport", transport))
        if self._connected is not None:
            self._connected()

    def data_received(self, data: bytes) -> None:
        self._link.came(self._way, data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._link.lost(self._way)


class Proxy:
    """Listens on a port of its own, and relays to a Unix socket."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.links: set[Link] = set()
        self.later: list[Callable[[], None]] = []
        self.held: frozenset[Way] = frozenset()
        self.delay: tuple[float, float] | None = None
        self.swallows = False
        self.cut: Cut | None = None
        self._left = 0
        self._wanted: Callable[[Link, bytes], bool] = lambda _link, _data: False
        self.cuts: list[str] = []
        """The sessions whose statements were cut off."""
        self.kept = self.swallowed = self.refused = 0
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self) -> _Side:
        link = Link(self)
        self.links.add(link)
        return _Side(link, Way.UP, partial(self._connected, link))

    def _connected(self, link: Link) -> None:
        task = asyncio.ensure_future(self._connect(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: _Side(link, Way.DOWN), str(self._target))
        except OSError:
            self.refused += 1
            link.abort()

    # ---- faults

    def hold(self, *ways: Way) -> None:
        self.held, self.kept = frozenset(ways), 0

    def order_cuts(self, cut: Cut, count: int, wanted: Callable[[Link, bytes], bool]) -> None:
        """Cut the next so many statements that are wanted."""
        self.cut, self._left, self._wanted, self.cuts = cut, count, wanted, []

    def wants_cut(self, link: Link, data: bytes) -> bool:
        if self.cut is None or self._left <= 0 or not self._wanted(link, data):
            return False
        self._left -= 1
        self.cuts.append(link.duty)
        return True

    def reset(self) -> int:
        """Reset every connection; how many there were."""
        links = list(self.links)
        for link in links:
            link.abort()
        return len(links)

    def heal(self) -> None:
        """The line is as it should be."""
        self.held, self.delay, self.swallows, self.cut = frozenset(), None, False, None
        for link in list(self.links):
            link.release()
            if link.deaf:
                link.abort()
        later, self.later = self.later, []
        for do in later:
            do()

    async def stop(self) -> None:
        self.heal()
        self.reset()
        if self._server is not None:
            self._server.close()
