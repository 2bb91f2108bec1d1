"""One request and its answer on the wire: what an application of whatever kind sends, and what the client gets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httptools
import pytest
import structlog

from app.http import connection
from app.http.connection import Connection
from app.http.exchange import ONE_PIECE, WHOLE
from app.server import Server
from tests.support.waiting import eventually
from tests.system.test_connections import HOST, Site, status

Answering = Callable[..., Awaitable[None]]
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


@asynccontextmanager
async def serving(answer: Answering | None = None) -> AsyncIterator[Site]:
    site = Site()
    if answer is not None:
        site.server = Server(answer, site.drain, site.started.set)
    task = asyncio.create_task(site.server.serve([site.listener]))
    await asyncio.wait_for(site.started.wait(), 10)
    try:
        yield site
    finally:
        site.server.leave()
        await asyncio.wait_for(task, 10)


def whole(body: bytes, *headers: tuple[bytes, bytes]) -> Answering:
    fields = [*headers, (b"content-length", b"%d" % len(body))]

    async def answer(scope, receive, send) -> None:
        assert WHOLE in scope["extensions"]
        await send({"type": WHOLE, "status": 200, "headers": fields, "body": body})

    return answer


def parts(*bodies: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answering:
    async def answer(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return answer


def split(answer: bytes) -> tuple[list[bytes], bytes]:
    """The lines of the head but the date's, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert sum(line.startswith(b"date: ") for line in lines) == 1
    return sorted(line for line in lines if not line.startswith(b"date: ")), body


@pytest.mark.parametrize("size", [0, 5, ONE_PIECE, 3_000_000])
async def test_a_whole_answer_is_the_same_as_one_in_parts(size: int):
    body = b"x" * size
    length = (b"content-length", b"%d" % size)
    async with serving(whole(body, (b"a", b"b"))) as one, serving(parts(body, headers=((b"a", b"b"), length))) as other:
        answers = [split(await site.say(LAST)) for site in (one, other)]
    assert answers[0] == answers[1]
    assert answers[0] == (sorted([b"HTTP/1.1 200 OK", b"a: b", b": ".join(length), b"connection: close"]), body)


@pytest.mark.parametrize("answer", [whole(b"12345"), parts(b"12", b"345"), parts(b"12", headers=((b"a", b"b"),))])
async def test_a_head_is_asked_for_without_a_body(answer: Answering):
    async with serving(answer) as site:
        got = await site.say(LAST.replace(b"GET", b"HEAD"))
    assert status(got) == b"HTTP/1.1 200 OK"
    assert got.endswith(b"\r\n\r\n")
    assert b"chunked" not in got


async def test_a_whole_answer_may_be_the_last_of_its_connection():
    async with serving(whole(b"12345", (b"connection", b"close"))) as site:
        got = await site.say(GET)
    assert got.count(b"connection: close\r\n") == 1


async def test_an_answer_without_a_length_goes_out_in_chunks():
    async with serving(parts(b"12", b"", b"345")) as site:
        lines, body = split(await site.say(LAST))
    assert b"transfer-encoding: chunked" in lines
    assert body == b"2\r\n12\r\n3\r\n345\r\n0\r\n\r\n"


async def test_who_knows_no_chunks_is_told_the_end_by_that_of_the_connection():
    async with serving(parts(b"12", b"345")) as site:
        lines, body = split(await site.say(b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n"))
    assert lines == [b"HTTP/1.1 200 OK", b"connection: close"]
    assert body == b"12345"


INJECTIONS = [
    (b"a", b"b\r\nx: y"),
    (b"a", b"b\n"),
    (b"a\r\n", b"b"),
    (b"a", b"b\0"),
    (b"a", b"\r\n\r\nHTTP/1.1 200 OK"),
]


@pytest.mark.parametrize("header", INJECTIONS)
@pytest.mark.parametrize("kind", ["whole", "parts"])
async def test_a_header_does_not_become_two(kind: str, header: tuple[bytes, bytes]):
    answer = whole(b"12345", header) if kind == "whole" else parts(b"12345", headers=(header,))
    with structlog.testing.capture_logs() as logged:
        async with serving(answer) as site:
            got = await site.say(GET)
    assert split(got) == ([b"HTTP/1.1 500 Internal Server Error", b"connection: close", b"content-length: 0"], b"")
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["the application broke"]


async def breaks(scope, receive, send) -> None:
    raise LookupError


async def says_nothing(scope, receive, send) -> None:
    pass


@pytest.mark.parametrize("answer", [breaks, says_nothing])
async def test_an_application_that_does_not_answer_is_a_bare_500(answer: Answering):
    with structlog.testing.capture_logs():
        async with serving(answer) as site:
            got = await site.say(GET)
    assert split(got) == ([b"HTTP/1.1 500 Internal Server Error", b"connection: close", b"content-length: 0"], b"")


LENGTH = ((b"content-length", b"5"),)


@pytest.mark.parametrize("bodies", [(b"1234",), (b"123", b"456"), (b"123456",)], ids=["short", "long", "long at once"])
async def test_an_answer_of_another_length_than_it_says_ends_the_connection(bodies: tuple[bytes, ...]):
    with structlog.testing.capture_logs():
        async with serving(parts(*bodies, headers=LENGTH)) as site:
            got = await site.say(GET + GET)
    assert got.count(b"HTTP/1.1 200 OK") <= 1
    assert len(split(got)[1] if got else b"") < 5


async def test_what_comes_behind_a_body_does_not_become_a_header():
    seen: list[bytes] = []

    async def answer(scope, receive, send) -> None:
        while (await receive())["more_body"]:
            pass
        seen.extend(name for name, _ in scope["headers"])
        await whole(b"")(scope, receive, send)

    async with serving(answer) as site:
        head = b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        got = await site.say(head + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert status(got) == b"HTTP/1.1 200 OK"
    assert seen == [b"host", b"connection", b"transfer-encoding"]


async def test_who_waits_to_be_told_to_go_on_is_told_so_when_the_body_is_read():
    async with serving() as site, site.connection() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"12345")
        assert status(await reader.readuntil(b"\r\n\r\n5")) == b"HTTP/1.1 200 OK"


async def test_a_connection_is_kept_from_its_last_answer_on_and_not_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.4)
    async with serving(whole(b"12345")) as site, site.connection() as (reader, writer):
        loop = asyncio.get_running_loop()
        began = last = loop.time()

        async def ask() -> bool:
            nonlocal last
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            writer.write(GET)
            assert (await reader.readuntil(b"\r\n\r\n12345")).startswith(b"HTTP/1.1 200 OK")
            last = loop.time()
            return last - began > 1.0

        while not await ask():
            pass
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert 0.35 < loop.time() - last < 2


async def test_an_answer_that_takes_longer_than_the_keep_alive_arrives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.1)
    async with serving() as site, site.connection() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n0")
        writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        await eventually(lambda: site.waiting == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.4)
        site.drained.set()
        assert status(await reader.readuntil(b"\r\n\r\n0")) == b"HTTP/1.1 200 OK"


class Asked(Connection):
    """A connection without a wire: what it makes of a target, and what the parser of URLs does."""

    def __init__(self) -> None:
        self._fields, self._url = [], b""
        self.targets: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        pass

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        self.targets.append(self._target())
        parsed = httptools.parse_url(self._url)
        self.targets.append((parsed.path, parsed.query or b""))

    def on_message_complete(self) -> None:
        pass


@pytest.mark.parametrize("place", [b"/a@b", b"/a?c=@d", b"/a@b?c@d?e", b"@b/a", b"/@", b"//@/?", b"/a?@#x"])
def test_a_target_is_divided_as_the_parser_of_urls_would(place: bytes):
    understood = 0
    for byte in range(256):
        asked = Asked()
        with suppress(httptools.HttpParserError):
            request = b"GET " + place.replace(b"@", bytes([byte])) + b" HTTP/1.1\r\n\r\n"
            httptools.HttpRequestParser(asked).feed_data(request)
        assert asked.targets[:1] == asked.targets[1:], (byte, asked.targets)
        understood += len(asked.targets) == 2
    assert understood > 0
