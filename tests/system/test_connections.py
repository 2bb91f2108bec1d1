"""What the HTTP server does with connections: before a request reaches the application, and when its client is gone."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from app.http import connection, flow
from app.server import Server
from tests.support.waiting import eventually

HOST = b"Host: 127.0.0.1\r\n"
DEADLINE = 0.3
READING = 0.5
LARGE = b"x" * 32_000_000


class Site:
    """A small application behind the real server: it answers with the size of the body."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.drained = asyncio.Event()
        self.waiting = 0
        self.dropped = 0
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.server = Server(self.answer, self.drain, self.started.set)

    async def drain(self) -> None:
        self.drained.set()

    async def answer(self, scope, receive, send) -> None:
        size = 0
        if scope["path"] == "/wait":
            self.waiting += 1
            await self.drained.wait()
        elif scope["path"] == "/poll":
            self.waiting += 1
            await self.left(receive)
            return
        elif scope["path"] == "/stream":
            await self.stream(receive, send)
            return
        elif scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": LARGE})
            return
        elif scope["path"] != "/unread":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.dropped += 1
                    return
                size += len(message["body"])
                if not message["more_body"]:
                    break
        body = str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def left(self, receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.dropped += 1

    async def stream(self, receive, send) -> None:
        left = asyncio.create_task(self.left(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.done():
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            await asyncio.sleep(0)

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self.listener.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def say(self, *parts: bytes) -> bytes:
        """Send this, and return all that comes until the connection is closed."""
        answer = b""
        async with self.connection() as (reader, writer), asyncio.timeout(10):
            with suppress(ConnectionError):  # closed while there was more to send
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                while data := await reader.read(65_536):
                    answer += data
        return answer


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(connection, "RECEIVE_TIMEOUT", DEADLINE)
    monkeypatch.setattr(flow, "READING", READING)
    monkeypatch.setattr(flow, "LOOK", 0.05)
    site = Site()
    serving = asyncio.create_task(site.server.serve([site.listener]))
    await asyncio.wait_for(site.started.wait(), 10)
    yield site
    site.server.leave()
    await asyncio.wait_for(serving, 10)


def status(answer: bytes) -> bytes:
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("silence", [b"", b"\r\n", b"GE"])
async def test_a_connection_that_asks_nothing_is_closed_without_a_word(site: Site, silence: bytes):
    assert await site.say(silence) == b""


@pytest.mark.parametrize(
    "part",
    [
        b"GET / HTTP/1.1\r\n" + HOST,
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Half: he",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n123",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["head", "header", "body", "chunks"],
)
async def test_a_request_that_does_not_arrive_in_time_is_closed_with_a_bare_408(site: Site, part: bytes):
    answer = await site.say(part)
    assert answer == b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def test_the_application_learns_that_the_rest_of_a_body_will_not_come(site: Site):
    await site.say(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n123")
    await eventually(lambda: site.dropped == 1)


async def test_a_trickle_of_bytes_does_not_prolong_the_time(site: Site):
    async with site.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + HOST)
        answer = asyncio.create_task(reader.read())

        def closed() -> bool:
            writer.write(b"X: y\r\n")
            return answer.done()

        await eventually(closed, timeout=10 * DEADLINE)
        assert status(answer.result()) == b"HTTP/1.1 408 Request Timeout"


async def test_the_next_request_on_a_connection_has_a_time_of_its_own(site: Site):
    whole = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = await site.say(whole + whole, b"GET /half")
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"HTTP/1.1 408 Request Timeout") == 1


async def test_an_answer_that_is_waited_for_is_not_hurried_by_half_a_request_behind_it(site: Site):
    async with site.connection() as (reader, writer):
        writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\nGET /half")
        await eventually(lambda: site.waiting == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 3 * DEADLINE)
        site.drained.set()
        assert status(await reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 200 OK"


async def test_a_body_that_the_application_did_not_want_gets_no_second_answer(site: Site):
    answer = await site.say(b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n123")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert status(answer) == b"HTTP/1.1 200 OK"


async def test_an_idle_connection_is_kept(site: Site):
    async with site.connection() as (reader, writer):
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert status(await reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 200 OK"
            assert await reader.readexactly(1) == b"0"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 2 * DEADLINE)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 102_401 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 1001 + b"\r\n", 431),
        (b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
    ids=["long header", "many headers", "long url", "tls", "byte in path", "two lengths", "bad chunk"],
)
async def test_what_is_too_large_or_no_request_is_closed_with_a_bare_status(site: Site, request_: bytes, expected: int):
    answer = await site.say(request_)
    # What was not read when a connection is closed may take the answer with it; the closing is certain.
    if answer:
        assert answer.startswith(f"HTTP/1.1 {expected} ".encode())
        assert answer.endswith(b"\r\n\r\n")


async def test_a_header_without_an_end_is_not_gathered(site: Site):
    answer = await site.say(b"GET / HTTP/1.1\r\n" + HOST + b"X: ", *[b"y" * 50_000] * 40)
    assert not answer or status(answer) == b"HTTP/1.1 431 Request Header Fields Too Large"


async def test_large_bodies_and_urls_within_the_limits_pass(site: Site):
    body = b"x" * 3_000_000
    head = b"POST /" + b"a" * 60_000 + b" HTTP/1.1\r\nConnection: close\r\nContent-Length: 3000000\r\n"
    assert (await site.say(head + HOST + b"\r\n" + body)).endswith(b"3000000")


async def test_leaving_answers_what_waits_and_closes_what_idles(site: Site):
    async with site.connection() as (idle_reader, idle_writer), site.connection() as (reader, writer):
        idle_writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await idle_reader.readuntil(b"\r\n\r\n0")
        writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        await eventually(lambda: site.waiting == 1)
        site.server.leave()
        answer = await asyncio.wait_for(reader.read(), 5)
        assert status(answer) == b"HTTP/1.1 200 OK"
        assert b"connection: close" in answer
        assert await asyncio.wait_for(idle_reader.read(), 5) == b""


MORE = {
    "nothing": b"",
    "another request": b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "many requests": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 1000,
    "half a request": b"GET /half",
    "half a large body": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000,
}


LEAVING = [
    *((more, at_once, "closes") for more in MORE for at_once in (True, False)),
    *(("another request", at_once, how) for how in ("resets", "ends its half") for at_once in (True, False)),
]


@pytest.mark.parametrize(("more", "at_once", "how"), LEAVING)
async def test_a_client_that_leaves_is_noticed_whatever_it_has_sent_meanwhile(
    site: Site, more: str, at_once: bool, how: str
):
    poll = b"GET /poll HTTP/1.1\r\n" + HOST + b"\r\n"
    loop = asyncio.get_running_loop()
    with socket.create_connection(site.listener.getsockname()) as connection:
        connection.setblocking(False)
        await loop.sock_sendall(connection, poll + (MORE[more] if at_once else b""))
        await eventually(lambda: site.waiting == 1)
        if not at_once:
            await loop.sock_sendall(connection, MORE[more])
        assert site.dropped == 0
        if how == "ends its half":
            connection.shutdown(socket.SHUT_WR)
        elif how == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await eventually(lambda: site.dropped == 1 and site.connections == 0)


async def test_requests_behind_one_that_waits_are_answered_in_their_order(site: Site):
    def get(path: bytes) -> bytes:
        return b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n12345"

    async with site.connection() as (reader, writer):
        writer.write(get(b"/wait") + get(b"/") + get(b"/unread"))
        await eventually(lambda: site.waiting == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        site.drained.set()
        for size in (b"0", b"5", b"0"):
            assert status(await reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 200 OK"
            assert await reader.readexactly(1) == size


@pytest.mark.parametrize("path", ["large", "stream"])
async def test_a_client_that_reads_nothing_is_dropped(site: Site, path: str):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(site.listener.getsockname())
        connection.sendall(f"GET /{path} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
        await eventually(lambda: site.connections == 1)
        await eventually(lambda: site.connections == 0)
    assert site.dropped == (path == "stream")


async def read_slowly(reader: asyncio.StreamReader, size: int) -> None:
    """At a pace at which this takes some times longer than a client may stand still."""
    got = 0
    while got < size:
        got += len(await reader.read(200_000))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("closes", [b"", b"Connection: close\r\n"], ids=["keeps", "closes"])
async def test_a_client_that_reads_slowly_gets_all_of_it(site: Site, monkeypatch: pytest.MonkeyPatch, closes: bytes):
    monkeypatch.setattr(flow, "READING", 0.2)
    async with site.connection() as (reader, writer), asyncio.timeout(30):
        writer.write(b"GET /large HTTP/1.1\r\n" + HOST + closes + b"\r\n")
        await read_slowly(reader, len(LARGE))
