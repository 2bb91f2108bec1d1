"""The database goes away and comes back: what callers are told meanwhile."""

import time

import pytest

from app.store.embedded import EmbeddedPostgres
from tests.support.service import Service
from tests.support.waiting import eventually_sync

SCRIPT = {"name": "scripted", "input": [["receive", "go"], ["set", "k", 1], ["receive", "go"]]}


@pytest.fixture
def postgres(tmp_path):
    postgres = EmbeddedPostgres(tmp_path / "postgres", fsync=False)
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def client(postgres, tmp_path):
    settings = {"DATABASE_URL": postgres.url(), "WORKFLOWS": "tests.support.workflows", "EXAMPLES": False}
    with Service(tmp_path, settings) as service, service.client() as client:
        yield client
        assert "a request broke" not in service.log, service.log


def timed(call, *arguments, **options):
    began = time.monotonic()
    response = call(*arguments, **options)
    return response, time.monotonic() - began


def test_an_outage_is_told_and_passes(postgres, client, meanwhile):
    id = client.post("/workflows", json=SCRIPT).json()["id"]
    short = meanwhile(timed, client.get, f"/workflows/{id}/events/k?timeout=4")
    long = meanwhile(timed, client.get, f"/workflows/{id}/events/k?timeout=60")
    start = meanwhile(timed, client.post, "/workflows?wait_for=k&timeout=4", json={**SCRIPT, "id": "during"})
    eventually_sync(lambda: client.get("/workflows/during").status_code == 200)
    # Whoever asked before this one waits by the time that it has waited.
    assert client.get(f"/workflows/{id}/events/k?timeout=0.5").status_code == 202
    postgres.stop()

    for call, path in (
        (client.get, f"/workflows/{id}"),
        (client.get, f"/workflows/{id}/events/k"),
        (client.get, "/readyz"),
    ):
        response, seconds = timed(call, path)
        assert (response.status_code, response.json()["code"]) == (503, "database-unavailable")
        assert response.headers["Retry-After"] == "1"
        assert seconds < 2
    for path, body in (("/workflows", SCRIPT), (f"/workflows/{id}/messages", {"topic": "go", "payload": 1})):
        response, seconds = timed(client.post, path, json=body)
        assert (response.status_code, response.json()["code"]) == (503, "database-unavailable")
        assert seconds < 2
    assert client.get("/healthz").status_code == 200

    response, seconds = short.result(20)
    assert (response.status_code, response.json()["code"]) == (503, "database-unavailable")
    assert seconds >= 4
    response, _ = start.result(20)
    assert response.status_code == 201, "a commit is not hidden by a wait that failed"
    assert response.json()["events"]["k"]["state"] == "pending"

    postgres.start()
    eventually_sync(lambda: client.get("/readyz").status_code == 200)
    message = {"topic": "go", "payload": 1}
    eventually_sync(lambda: client.post(f"/workflows/{id}/messages", json=message).status_code == 201)
    response, _ = long.result(20)
    assert (response.status_code, response.json()["value"]) == (200, 1)
