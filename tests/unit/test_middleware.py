"""The frame around every request, over small applications."""

import asyncio

import pytest
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse

from app.api.middleware import BodyLimit, Frame
from app.errors import BodyTooLarge, WorkflowNotFound


def ask(app, method="GET", headers=(), body=(b"",)):
    """The messages that an application sends."""
    sent = []
    received = [{"type": "http.request", "body": part, "more_body": True} for part in body]

    async def receive():
        return received.pop(0) if received else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/x", "raw_path": b"/x", "headers": list(headers)}
    asyncio.run(app(scope, receive, send))
    return sent


def framed(app, *, draining=False):
    return Frame(app, draining=lambda: draining)


def raising(error, *, after=None):
    async def app(scope, receive, send):
        if after:
            await send({"type": "http.response.start", "status": after, "headers": []})
        raise error

    return app


def test_what_was_not_foreseen_is_a_500_that_tells_nothing():
    with structlog.testing.capture_logs() as logged:
        start, body = ask(framed(raising(RuntimeError("the password is x"))), headers=[(b"x-request-id", b"r-1")])
    assert start["status"] == 500
    assert b"internal-error" in body["body"]
    assert b"password" not in body["body"]
    broken = [line for line in logged if line["log_level"] == "error"]
    assert [(line["event"], line["request_id"], line["path"]) for line in broken] == [("a request broke", "r-1", "/x")]


def test_a_refusal_outside_of_the_routes_is_a_problem_too():
    start, body = ask(framed(raising(WorkflowNotFound())))
    assert (start["status"], b"workflow-not-found" in body["body"]) == (404, True)


@pytest.mark.parametrize("error", [RuntimeError("late"), WorkflowNotFound()])
def test_an_answer_that_has_begun_is_not_begun_again(error):
    with structlog.testing.capture_logs():
        assert [message["type"] for message in ask(framed(raising(error, after=200)))] == ["http.response.start"]


def test_nothing_is_sent_to_a_client_that_is_gone():
    assert ask(framed(raising(ClientDisconnect()))) == []


def test_an_answer_while_draining_closes_its_connection():
    start, _ = ask(framed(PlainTextResponse("x"), draining=True))
    assert (b"connection", b"close") in start["headers"]


def test_an_answers_own_caching_is_kept():
    start, _ = ask(framed(PlainTextResponse("x", headers={"Cache-Control": "private"})))
    assert [value for name, value in start["headers"] if name == b"cache-control"] == [b"private"]


def test_an_answer_that_is_sent_twice_does_not_gather_headers():
    app = framed(JSONResponse({}))
    assert len(ask(app)[0]["headers"]) == len(ask(app)[0]["headers"])


def reading(read):
    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            read.append(len(message["body"]))

    return app


def limiting(app, limit):
    bodies = BodyLimit(limit)

    async def limited(scope, receive, send):
        await app(scope, bodies.limited(scope, receive), send)

    return limited


def test_a_body_is_read_up_to_its_limit():
    read: list[int] = []
    ask(limiting(reading(read), 10), "POST", body=[b"12345", b"12345"])
    assert read == [5, 5]
    with pytest.raises(BodyTooLarge):
        ask(limiting(reading(read), 10), "POST", body=[b"12345", b"123456", b"more"])
    assert read == [5, 5, 5]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("length", [b"11", b"9" * 30, b"-1", b"1_0"])
def test_a_declared_length_beyond_the_limit_is_refused_unread(method, length):
    read: list[int] = []
    with pytest.raises(BodyTooLarge):
        ask(limiting(reading(read), 10), method, headers=[(b"content-length", length)], body=[b"x"])
    assert read == []
