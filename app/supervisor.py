"""Several serving processes under one: it starts them, starts them again when they end, and stops them.

The parent holds what there is once: the address, the embedded database, the terminal's signals. A child is the same
program with a *place*: the files that it inherits from its parent, and what its parent knows of it. On one file it
reports, once, that it serves, or why it can't. Another one never says anything, and ends with the parent: so a child
knows when that was killed, and leaves too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Self

from app import telemetry
from app.errors import MilepostError

log = telemetry.logger(__name__)

STEADY = 10.0
"""Seconds after which a process was no failure to start."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
_READY = "ready"


class ChildFailed(MilepostError):
    """A process could not serve."""


@dataclass(frozen=True, slots=True)
class Place:
    """One child's: its number, from 1, and numbers of files."""

    number: int
    listener: int
    leash: int
    report: int
    database_url: str | None
    """Of the parent's embedded database."""

    @property
    def files(self) -> tuple[int, ...]:
        return (self.listener, self.leash, self.report)

    def argument(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def taken(cls, argument: str) -> Self:
        """This process's own. What it starts itself must not inherit the files."""
        place = cls(**json.loads(argument))
        for file in place.files:
            os.set_inheritable(file, False)
        return place

    def tell_ready(self) -> None:
        self._tell(_READY)

    def tell_failure(self, reason: str) -> None:
        self._tell(reason)

    def _tell(self, words: str) -> None:
        # The parent may be gone; that is told by the leash.
        with suppress(BrokenPipeError):
            os.write(self.report, words.encode())
        os.close(self.report)


class Supervisor:
    """`arguments` are those of a child at a place, `started` is called when all serve for the first time, and `grace`
    seconds after a signal children that still live are killed."""

    def __init__(
        self,
        listener: socket.socket,
        count: int,
        *,
        arguments: Callable[[Place], Sequence[str]],
        database_url: str | None,
        started: Callable[[], None],
        grace: float,
    ) -> None:
        self._listener, self._count, self._arguments = listener, count, arguments
        self._database_url, self._started, self._grace = database_url, started, grace
        self._children: dict[int, Process] = {}
        self._ready: set[int] = set()
        self._announced = False
        self._stopping = asyncio.Event()
        self._leash, self._hold = os.pipe()

    async def run(self) -> None:
        """Returns when a signal has come and all children have ended; raises ChildFailed when one can't even start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._obey, number)
        tending = [asyncio.create_task(self._tend(n), name=f"process {n}") for n in range(1, self._count + 1)]
        try:
            await asyncio.gather(*tending)
        finally:
            for task in tending:
                task.cancel()
            await asyncio.gather(*tending, return_exceptions=True)
            os.close(self._leash)
            os.close(self._hold)

    def _obey(self, number: int) -> None:
        """The first signal stops the children, each in its own time; the second one ends everything at once."""
        if self._stopping.is_set():
            self._signal(signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._stopping.set()
        # The children still answer on it; when the last of them has left, it is closed.
        self._listener.close()
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._grace, self._signal, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for place, child in self._children.items():
            if number is signal.SIGKILL:
                log.warning("a process has not stopped and is killed", number=place, pid=child.pid)
            with suppress(ProcessLookupError):
                child.send_signal(number)

    async def _tend(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = loop.time()
            pid, status, reason = await self._live(number)
            if self._stopping.is_set():
                return
            if not self._announced:
                raise ChildFailed(reason or f"A process could not serve: {status}.")
            pause = FIRST_PAUSE if loop.time() - began > STEADY else min(2 * pause, LONGEST_PAUSE)
            about = {"number": number, "pid": pid, "status": status, "pause": pause}
            log.warning("a process has ended and is started again", **about, **({"reason": reason} if reason else {}))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _live(self, number: int) -> tuple[int, str, str]:
        """One life of a child: its process id, how it ended, and what it said of that."""
        reading, writing = os.pipe()
        place = Place(number, self._listener.fileno(), self._leash, writing, self._database_url)
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments(place),
                stdin=subprocess.DEVNULL,
                pass_fds=place.files,
                # Signals of the terminal are for the parent, which passes them on once.
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._children[number] = child
        try:
            if self._stopping.is_set():
                child.terminate()
            said = await _all(reading)
            if said == _READY:
                self._serves(number)
            code = await child.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            raise
        finally:
            del self._children[number]
        return child.pid, _told(code), "" if said == _READY else said

    def _serves(self, number: int) -> None:
        self._ready.add(number)
        if len(self._ready) == self._count and not self._announced and not self._stopping.is_set():
            self._announced = True
            self._started()


async def _all(file: int) -> str:
    """What is written to a pipe until it is closed."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file, "rb", buffering=0)
    )
    try:
        return (await reader.read()).decode(errors="replace")
    finally:
        transport.close()


def _told(code: int) -> str:
    return f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
