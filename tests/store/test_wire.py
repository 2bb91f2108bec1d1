"""Statements that are sent without the driver's cursor: what goes out comes back, and no answer is another's."""

import asyncio
import select
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from app.store import db
from tests.support.sessions import observer
from tests.support.waiting import PATIENCE, eventually

ASLEEP = "select 1 from pg_stat_activity where pid = %(pid)s and state = 'active' and query like '%%pg_sleep%%'"
PID = "select pg_backend_pid() as pid"
TEXTS = ["plain", "", 'a quote " in it', "a back\\slash", 'both \\" of them', '","', "{}", "null", "NULL", "ö 🙂", " "]

FAREWELL = b"SWARNING\0C57P02\0Mterminating connection because of crash of another server process\0\0"


class Mortal:
    """Passes all bytes of one connection on to a database, until it dies of the next ones that come in: it says
    farewell as a server does whose cluster crashes, and leaves unread what was sent to it."""

    def __init__(self, url: str, folder: Path) -> None:
        self._there = make_url(url)
        self._here = socket.socket(socket.AF_UNIX)
        self._here.bind(str(folder / ".s.PGSQL.5432"))
        self._here.listen()
        here = self._there.set(host=None, port=None).update_query_dict({"host": str(folder)})
        self.url = here.render_as_string(hide_password=False)
        self.dying = threading.Event()

    def serve(self) -> None:
        with self._here, self._here.accept()[0] as client, self._connected() as server:
            other = {client: server, server: client}
            while True:
                for end in select.select([client, server], [], [])[0]:
                    if self.dying.is_set():
                        client.sendall(b"N" + (len(FAREWELL) + 4).to_bytes(4) + FAREWELL)
                        return
                    other[end].sendall(end.recv(65_536))

    def _connected(self) -> socket.socket:
        folder = self._there.query.get("host")
        if folder is None:
            return socket.create_connection((self._there.host, self._there.port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.5432")
        return server


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[db.Line]:
    """A line with a session of its own, also where the others go through a pooler."""
    database = db.Database(url)
    line = db.Line(database, "wire")
    try:
        yield line
    finally:
        await line.close()
        await database.close()


async def pid(line: db.Line) -> int:
    return int((await line.rows(PID, {}))[0].pid)


async def test_lists_of_text_arrive_as_they_are(database_url: str):
    lists: list[list[str]] = [TEXTS, [], *([text] for text in TEXTS)]
    async with wired(database_url) as line:
        found = [await line.rows("select %(texts)s::text[] as texts", {"texts": texts}) for texts in lists]
    assert [rows[0].texts for rows in found] == lists


async def test_a_name_may_be_used_twice_and_a_percent_sign_stays(database_url: str):
    async with wired(database_url) as line:
        params = {"a": "x%y", "n": 7, "none": None, "raw": b"\x00\xff"}
        statement = (
            "select %(a)s like '%%%%y' as ends, %(a)s::text || %(a)s::text as twice, %(n)s::int as n,"
            " %(none)s::text as none, %(raw)s::bytea as raw"
        )
        row = (await line.rows(statement, params))[0]
    assert row == (True, "x%yx%y", 7, None, b"\x00\xff")


async def test_the_same_statement_takes_values_of_other_types(database_url: str):
    async with wired(database_url) as line:
        values = ["1", 2, 3_000_000_000, None]
        found = [(await line.rows("select %(v)s::bigint as v", {"v": value}))[0].v for value in values]
    assert found == [1, 2, 3_000_000_000, None]


async def test_more_than_a_socket_takes_goes_out_and_comes_in(database_url: str):
    text = "x" * 20_000_000
    async with wired(database_url) as line:
        row = (await line.rows("select %(text)s::text as text, length(%(text)s::text) as size", {"text": text}))[0]
        assert (row.text == text, row.size) == (True, len(text))
        many = await line.rows("select n from generate_series(1, %(most)s::int) as n", {"most": 100_000})
        assert [many[0].n, many[-1].n, len(many)] == [1, 100_000, 100_000]


async def test_an_error_is_the_statement_s_own(database_url: str):
    async with wired(database_url) as line:
        before = await pid(line)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await line.rows("select 1 / %(n)s::int as n", {"n": 0})
        with pytest.raises(psycopg.errors.UndefinedTable):
            await line.rows("select from nowhere", {})
        assert (await line.rows("select 1 / %(n)s::int as n", {"n": 1}))[0].n == 1
        assert await line.rows("create table anything (n int)", {}) == []
        # A statement that is wrong gives its connection up, one that only met a wrong value does not.
        assert await pid(line) != before


async def test_an_error_of_the_commit_is_not_taken_for_success(database_url: str):
    async with wired(database_url) as line:
        await line.rows("create table late (n int unique deferrable initially deferred)", {})
        with pytest.raises(psycopg.errors.UniqueViolation):
            await line.rows("insert into late values (1), (1) returning n", {})
        assert await line.rows("select n from late", {}) == []


async def test_a_statement_that_is_called_off_is_stopped_and_leaves_no_answer_behind(database_url: str):
    async with wired(database_url) as line, observer(database_url) as look:
        before = await pid(line)
        sleeping = asyncio.create_task(line.rows("select 'mine' as whose from pg_sleep(60)", {}))
        await eventually(lambda: look.rows(ASLEEP, {"pid": before}), message="the statement is not under way")
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        assert (await line.rows("select 'another' as whose", {}))[0].whose == "another"
        assert not await look.rows(ASLEEP, {"pid": before})
        assert await pid(line) == before


async def test_a_session_that_was_ended_meanwhile_is_replaced(database_url: str):
    async with wired(database_url) as line, observer(database_url) as look:
        before = await pid(line)
        await look.rows("select pg_terminate_backend(%(pid)s, 5000)", {"pid": before})
        assert await pid(line) != before


async def test_a_session_that_is_ended_under_a_statement_is_a_lost_one(database_url: str):
    async with wired(database_url) as line, observer(database_url) as look:
        before = await pid(line)
        sleeping = asyncio.create_task(line.rows("select from pg_sleep(60)", {}))
        await eventually(lambda: look.rows(ASLEEP, {"pid": before}), message="the statement is not under way")
        await look.rows("select pg_terminate_backend(%(pid)s, 5000)", {"pid": before})
        with pytest.raises(psycopg.OperationalError) as lost:
            await sleeping
        assert db.verdict(lost.value) is db.Verdict.LOST
        assert await pid(line) != before


async def test_a_server_that_dies_before_it_has_read_a_statement_is_missed_at_once(database_url: str, tmp_path: Path):
    mortal = Mortal(database_url, tmp_path)
    served = asyncio.create_task(asyncio.to_thread(mortal.serve))
    async with wired(mortal.url) as line:
        await pid(line)
        mortal.dying.set()
        with pytest.raises(psycopg.OperationalError) as lost:
            async with asyncio.timeout(PATIENCE):
                await pid(line)
        assert db.verdict(lost.value) is db.Verdict.LOST
    await served


async def test_statements_and_transactions_take_turns_on_a_line(database_url: str):
    async with wired(database_url) as line:
        before = await pid(line)
        for number in range(3):
            async with line.transaction() as connection:
                row = await (await connection.execute("select %s::int as n", [number])).fetchone()
                assert row == (number,)
            assert await pid(line) == before
