"""Waiting requests: their seats, clients that go away, and the end of the process."""

import socket
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import pytest

from tests.support.conformance import Conformance
from tests.support.waiting import eventually_sync

SCRIPT = {"name": "scripted", "input": [["receive", "go"]]}
START = b'{"name": "scripted", "input": [["receive", "go"]], "id": "left"}'


@pytest.fixture
def seats(request):
    """How many requests may wait."""
    return getattr(request, "param", 1)


@pytest.fixture
def narrow(launch, seats):
    return launch(WORKFLOWS="tests.support.workflows", WAITING_LIMIT=seats)


@pytest.fixture
def client(narrow):
    with narrow.client() as client:
        client.event_hooks["response"] = [Conformance(client.get("/openapi.json").json())]
        yield client


@pytest.fixture
def id(client):
    return client.post("/workflows", json=SCRIPT).json()["id"]


def park(service, path, method="GET", body=b""):
    """A request that waits, on a connection of its own."""
    connection = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=30)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    connection.sendall(head.encode() + b"\r\n\r\n" + body)
    return connection


def full(client, id):
    """Whether all seats are taken; to find out is to take one for a moment."""
    return client.get(f"/workflows/{id}/events/k?timeout=0.01").status_code == 503


def refused(connection):
    connection.setblocking(False)
    try:
        return connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 503"
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(30)


def whole_answer(connection):
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@contextmanager
def seated(service, client, id, *requests):
    """Requests that wait, and have all the seats."""
    connections: dict[tuple[object, ...], socket.socket] = {}

    def all_seated():
        late = [request for request in requests if request not in connections or refused(connections[request])]
        for request in late:
            connections[request] = stack.enter_context(park(service, *request))
        # To look whether all is full may take the seat of one of these, so not before they have had the time to come.
        return not late and full(client, id) and not any(map(refused, connections.values()))

    with ExitStack() as stack:
        eventually_sync(all_seated)
        yield list(connections.values())


def test_no_more_requests_wait_than_there_are_seats(narrow, client, id):
    paths = ("events/k", "events?key=k", "history?timeout=60", "result", "stream")
    for path in paths:
        with seated(narrow, client, id, (f"/workflows/{id}/{path}",)):
            for other in paths:
                response = client.get(f"/workflows/{id}/{other}")
                assert (response.status_code, response.json()["code"]) == (503, "overloaded")
                assert response.headers["Retry-After"] == "1"
            assert client.get(f"/workflows/{id}/events/k?timeout=0").status_code == 202
            assert client.get(f"/workflows/{id}/history").status_code == 200
            assert client.head(f"/workflows/{id}/events/k").status_code == 202
        eventually_sync(lambda: not full(client, id), message="the seat of a client that went away")


def test_a_request_takes_its_seat_before_it_commits_anything(narrow, client, id):
    with seated(narrow, client, id, (f"/workflows/{id}/result",)):
        unborn = f"w-{uuid4()}"
        for query in ("wait_for=k", "wait_for_result=true"):
            response = client.post(f"/workflows?{query}", json={**SCRIPT, "id": unborn})
            assert (response.status_code, response.json()["code"]) == (503, "overloaded")
        assert client.get(f"/workflows/{unborn}").status_code == 404
        message = {"topic": "go", "payload": 1}
        assert client.post(f"/workflows/{id}/messages?wait_for=k", json=message).status_code == 503
        assert client.get(f"/workflows/{id}/messages").json()["messages"] == []
        assert client.post("/workflows", json={**SCRIPT, "id": unborn}).status_code == 201


def test_a_client_that_goes_away_leaves_its_start_behind(narrow, client, id):
    with seated(narrow, client, id, ("/workflows?wait_for=k", "POST", START)):
        eventually_sync(lambda: client.get("/workflows/left").status_code == 200)
    eventually_sync(lambda: not full(client, id), message="the seat of a client that went away")
    assert client.get("/workflows/left").json()["status"] in ("RUNNING", "WAITING")


@pytest.mark.parametrize("seats", [6], indirect=True)
def test_an_orderly_end_answers_whoever_waits(narrow, client, id):
    waits = {"events/k": 202, "events?key=k": 202, "history?timeout=60": 200, "result": 202, "stream": 200}
    requests = [(f"/workflows/{id}/{path}",) for path in waits]
    with seated(narrow, client, id, *requests, ("/workflows?wait_for=k", "POST", START)) as waiting:
        assert narrow.terminate() == 0
        *answers, started = map(whole_answer, waiting)
    for (path, status), answer in zip(waits.items(), answers, strict=True):
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), path
        assert path == "stream" or b"\r\nconnection: close\r\n" in answer.lower(), path
    assert answers[-1].endswith(b"\r\n0\r\n\r\n")
    assert b"$end" not in answers[-1]
    assert started.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 200 "))
    assert b'"state":"pending"' in started
