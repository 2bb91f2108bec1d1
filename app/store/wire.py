"""Statements over a connection of one's own, without the driver's cursor.

To send a prepared statement and read a few rows back, a cursor spends several times what libpq needs: it writes and
plans the statement's text anew, describes the columns, and begins and ends to watch the socket each time. Here a
statement is looked up, the socket is watched for as long as the connection lives, and the driver does what it is best
at: it converts values both ways. Only for connections with a session of their own; statements stay prepared there.
"""

from __future__ import annotations

import asyncio
import re
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, cast

import psycopg
from psycopg import errors, pq
from psycopg.adapt import PyFormat, Transformer

from app.store import sessions

LOOK = 0.1
"""Seconds after which one looks for an answer that was not heard of. uvloop tells of a socket that has an error once,
and is silent from then on: a server that dies before it has read a statement says farewell first, and resets the
connection after that."""

_PLACE = re.compile(r"%\((\w+)\)([sb])|%%")
_ROWS = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK})
_TO_BE_ESCAPED = re.compile(r'["\\]')
_SEPARATOR = '","'


class Wire:
    """One statement at a time; whoever shares it sees to that."""

    def __init__(self, connection: sessions.Connection, *, patience: float) -> None:
        """`patience`: seconds after which a server that has not answered is given up, as one that is not there."""
        self._patience, self._deadline = patience, 0.0
        self._connection, self._pgconn = connection, connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._values = Transformer(connection)
        self._prepared: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._makers: dict[str, Callable[[Sequence[Any]], Any]] = {}
        self._awaited: asyncio.Future[None] | None = None
        """Done when the server has answered, or has taken all of a long statement."""
        self._next_look: asyncio.TimerHandle | None = None
        self._watched: int | None = None
        """The socket, while it is watched. libpq closes it at once when it finds the connection lost, and the next one
        may well get its number: by then it must not be watched any more."""
        self._flushing = False

    async def rows(self, statement: str, params: Mapping[str, Any]) -> Sequence[Any]:
        """Run a statement and fetch what it returns, as named tuples; raises what the driver raises."""
        text, names, formats = _numbered(statement)
        values = [_value(params[name]) for name in names]
        dumped = self._values.dump_sequence(values, formats)
        types = tuple(self._values.types or ())
        try:
            name = self._prepared.get((statement, types))
            if name is None:
                name = b"wire_%d" % len(self._prepared)
                self._pgconn.send_prepare(name, text, types)
                await self._answer()
                self._prepared[statement, types] = name
            self._pgconn.send_query_prepared(name, dumped, self._values.formats)
            result = await self._answer()
        except asyncio.CancelledError:
            await self._call_off()
            raise
        except OSError as error:
            raise psycopg.OperationalError("connection socket closed") from error
        return self._loaded(statement, result)

    def rest(self) -> None:
        """Leave the socket to the driver, or to be closed."""
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._loop.remove_writer(self._watched)
            self._watched = None

    async def _answer(self) -> pq.abc.PGresult:
        """The outcome of what was sent; raises it if it is an error."""
        if self._watched is None:
            self._watched = self._pgconn.socket
            self._loop.add_reader(self._watched, self._readable)
        self._deadline = self._loop.time() + self._patience
        if self._pgconn.flush():
            await self._flushed()
        results = []
        while (result := await self._next()) is not None:
            results.append(result)
        if not results:
            raise psycopg.OperationalError("the connection was lost")
        for result in results:
            # The second one is what became of the commit, if that failed.
            if result.status not in _ROWS:
                raise errors.error_from_result(result)
        return results[0]

    async def _next(self) -> pq.abc.PGresult | None:
        # Also when a result is there already: the end may still be on its way. Of a lost connection libpq has an error.
        if self._watched is not None and self._pgconn.is_busy():
            await self._woken()
        return self._pgconn.get_result()

    async def _woken(self) -> None:
        self._awaited = self._loop.create_future()
        self._next_look = self._loop.call_later(LOOK, self._look)
        try:
            await self._awaited
        finally:
            self._awaited = None
            self._next_look.cancel()

    def _look(self) -> None:
        self._next_look = self._loop.call_later(LOOK, self._look)
        if self._loop.time() > self._deadline:
            sessions.hang_up(self._connection)
        if self._flushing:
            self._writable()
        self._readable()

    def _wake(self, error: Exception | None = None) -> None:
        if self._awaited is None or self._awaited.done():
            return
        if error is None:
            self._awaited.set_result(None)
        else:
            self._awaited.set_exception(error)

    async def _flushed(self) -> None:
        """Returns when all of a long statement has gone out. What comes in meanwhile is read, else the server might
        not read on."""
        self._flushing = True
        self._loop.add_writer(self._pgconn.socket, self._writable)
        try:
            await self._woken()
        finally:
            self._flushing = False
            if self._watched is not None:
                self._loop.remove_writer(self._watched)

    def _writable(self) -> None:
        try:
            unsent = self._pgconn.flush()
        except psycopg.Error as error:
            self._lost(error)
        else:
            if not unsent:
                self._wake()

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
            busy = self._pgconn.is_busy()
        except psycopg.Error as error:
            self._lost(error)
        else:
            if not busy and not self._flushing:
                self._wake()

    def _lost(self, error: psycopg.Error) -> None:
        # The end of a stream stays readable for ever. Whoever comes next is told by libpq.
        self.rest()
        self._wake(error)

    async def _call_off(self) -> None:
        """Nobody waits for the statement any more: have the server stop it, and read its answer. A connection that is
        still at work after this is no good."""
        with suppress(psycopg.Error, OSError, TimeoutError):
            async with asyncio.timeout(5):
                await self._connection.cancel_safe()
                await self._answer()

    def _loaded(self, statement: str, result: pq.abc.PGresult) -> Sequence[Any]:
        if not result.nfields:
            return []
        self._values.set_pgresult(result)
        make = self._makers.get(statement)
        if make is None:
            names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
            make = self._makers[statement] = cast("Any", namedtuple)("Row", names)._make  # noqa: PYI024 - made at run time
        return self._values.load_rows(0, result.ntuples, make)


def _value(value: Any) -> Any:
    """Lists of text are what the driver takes longest for."""
    if type(value) is list and value and all(type(item) is str for item in value):
        return value if _TO_BE_ESCAPED.search("".join(value)) else f'{{"{_SEPARATOR.join(value)}"}}'
    return value


@cache
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...], tuple[PyFormat, ...]]:
    """A statement as the server reads it, the names of its parameters by number, and their formats."""
    places: dict[str, PyFormat] = {}

    def number(match: re.Match[str]) -> str:
        name, form = match.groups()
        if name is None:
            return "%"
        places.setdefault(name, PyFormat(form))
        return f"${list(places).index(name) + 1}"

    text = _PLACE.sub(number, statement)
    return text.encode(), tuple(places), tuple(places.values())
