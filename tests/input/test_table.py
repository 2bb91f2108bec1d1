"""Bad requests, one by one: each is answered in time, as the contract says, and changes nothing."""

import time
from itertools import chain

import pytest

from tests.input import bodies, framing, paths, protocol, queries
from tests.input.raw import CANARY, Answer, Case, Connection

TABLE = list(chain(paths.cases(), queries.cases(), bodies.cases(), protocol.cases(), framing.cases()))
SECONDS = 5.0
LEAKS = (
    b"Traceback",
    b'File "',
    b"site-packages",
    b".py",
    b"psycopg",
    b"sqlalchemy",
    b"SQLSTATE",
    b"pydantic",
    b"SELECT ",
)


@pytest.fixture(scope="module")
def before(written):
    return written()


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.id)
def test_a_bad_request_gets_its_answer_and_changes_nothing(case: Case, connection: Connection, before, written):
    began = time.monotonic()
    connection.send(case.request())
    try:
        answer = connection.answer(case.method)
    except ConnectionError:
        # What was not read when a connection is closed may take the answer with it; the closing is certain.
        assert case.closes
        return
    assert time.monotonic() - began < SECONDS
    assert answer.status == case.status, answer.body[:1_000]
    if case.closes:
        assert connection.closed()
    else:
        _is_of_the_application(case, answer)
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.answer().json == {"status": "ok"}
    assert written() == before


def _is_of_the_application(case: Case, answer: Answer) -> None:
    whole = b"\r\n".join(f"{name}: {value}".encode("latin-1") for name, value in answer.headers) + answer.body
    assert case.says in whole
    assert answer.header("server") is None
    assert answer.header("x-injected") is None
    assert answer.header("access-control-allow-origin") is None
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") in ("no-store", "private, no-cache")
    assert 0 < len(answer.header("x-request-id") or "") <= 128
    if case.method != b"HEAD" and answer.status >= 400:
        _is_a_problem(case, answer)


def _is_a_problem(case: Case, answer: Answer) -> None:
    assert answer.media_type == "application/problem+json"
    problem = answer.json
    path = case.target.partition(b"?")[0].decode("latin-1")
    assert (problem["status"], problem["code"]) == (case.status, case.code)
    assert problem["type"] == f"/problems/{case.code}"
    assert problem["instance"] == path
    assert problem["title"]
    assert problem["detail"]
    said = answer.body.replace(path.encode(), b"")
    assert CANARY.encode() not in said
    assert not [leak for leak in LEAKS if leak in said]
    assert len(answer.body) < 64 * 1024 + 4 * len(path), "a small request has a large answer"
    if case.place is not None:
        errors = problem["errors"]
        places = [error.get("pointer", error.get("parameter")) for error in errors]
        assert case.place in places
        assert all(error["message"] for error in errors)
    elif case.status == 422:
        assert problem["errors"]


def test_no_two_rows_of_the_table_have_one_name():
    names = [case.id for case in TABLE]
    assert len(set(names)) == len(names) >= 250
