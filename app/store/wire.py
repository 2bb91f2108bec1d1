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

_PLACE = re.compile(r"%\((\w+)\)([sb])|%%")
_ROWS = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK})
_TO_BE_ESCAPED = re.compile(r'["\\]')
_SEPARATOR = '","'


class Wire:
    """One statement at a time; whoever shares it sees to that."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection, self._pgconn = connection, connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._values = Transformer(connection)
        self._prepared: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._makers: dict[str, Callable[[Sequence[Any]], Any]] = {}
        self._answered: asyncio.Future[None] | None = None
        self._watched: int | None = None

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
            self._watched = None

    async def _answer(self) -> pq.abc.PGresult:
        """The outcome of what was sent; raises it if it is an error."""
        if self._watched is None:
            self._watched = self._pgconn.socket
            self._loop.add_reader(self._watched, self._readable)
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
        # Also when a result is there already: the end may still be on its way.
        if self._pgconn.is_busy():
            self._answered = self._loop.create_future()
            try:
                await self._answered
            finally:
                self._answered = None
        return self._pgconn.get_result()

    async def _flushed(self) -> None:
        """Returns when all of a long statement has gone out. What comes in meanwhile is read, else the server might
        not read on."""
        socket = self._pgconn.socket
        done: asyncio.Future[None] = self._loop.create_future()

        def go_on() -> None:
            try:
                unsent = self._pgconn.flush()
            except psycopg.Error as error:
                self._loop.remove_writer(socket)
                if not done.done():
                    done.set_exception(error)
            else:
                if not unsent and not done.done():
                    done.set_result(None)

        self._loop.add_writer(socket, go_on)
        try:
            await done
        finally:
            self._loop.remove_writer(socket)

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
            busy = self._pgconn.is_busy()
        except psycopg.Error as error:
            # The end of a stream stays readable for ever. Whoever comes next is told by libpq.
            self.rest()
            if self._answered is not None and not self._answered.done():
                self._answered.set_exception(error)
            return
        if not busy and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

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
