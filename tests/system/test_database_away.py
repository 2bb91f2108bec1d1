"""PostgreSQL goes away and comes back: nobody is lied to, nothing fails because of it, nobody restarts anything."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.store.embedded import EmbeddedPostgres
from tests.support import trials
from tests.support.gates import notes
from tests.support.service import Service, plain
from tests.support.waiting import eventually_sync


class Database:
    """A durable PostgreSQL that is made to crash."""

    def __init__(self, folder: Path) -> None:
        self._postgres = EmbeddedPostgres(folder)
        self._postgres.start()

    @property
    def url(self) -> str:
        return self._postgres.url()

    def crash(self) -> None:
        """As `pg_ctl stop -m immediate`: every connection breaks, and recovery is needed at the next start."""
        pid = int((self._postgres.folder / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        self._postgres.stop()

    def start(self) -> None:
        self._postgres.start()

    def stop(self) -> None:
        self._postgres.stop()

    def ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(tmp_path_factory.mktemp("away"))
    yield database
    database.stop()


@pytest.fixture(scope="module")
def service(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "DATABASE_URL": database.url,
        "WORKFLOWS": "tests.support.workflows,tests.support.trials",
        "EXAMPLES": False,
        "LINGER": 0.2,
    }
    with Service(tmp_path_factory.mktemp("service"), settings) as service:
        database.ask(trials.EFFECTS)
        yield service
        assert service.terminate() == 0, service.log
        assert "Traceback" not in service.log, service.log


@pytest.fixture
def away(database: Database) -> Iterator[Callable[[], None]]:
    """Take the database away; it is back after the test at the latest."""
    with ExitStack() as back:

        def away() -> None:
            database.crash()
            back.callback(database.start)

        yield away


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    eventually_sync(service.ready)
    with service.client() as client:
        yield client


@pytest.fixture
def meanwhile() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(20) as threads:
        yield threads.submit


def insist(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """As callers do who are told to try again: a database that has just recovered may be slow for a moment."""

    def taken() -> httpx.Response | None:
        response = ask()
        return None if response.status_code == 503 else response

    response = eventually_sync(taken)
    assert response is not None
    return response


def begin(client: httpx.Client, id: str, name: str, input: Any) -> str:
    body = {"name": name, "id": id, "input": input}
    response = insist(lambda: client.post("/workflows", json=body))
    assert response.is_success, response.text
    return id


def start(client: httpx.Client, id: str, *script: list[Any]) -> str:
    return begin(client, id, "scripted", list(script))


def send(client: httpx.Client, id: str) -> httpx.Response:
    body = {"topic": "go", "payload": None}
    headers = {"Idempotency-Key": "go"}
    return insist(lambda: client.post(f"/workflows/{id}/messages", json=body, headers=headers))


def test_new_requests_are_refused_within_a_second(client: httpx.Client, away):
    id = start(client, "refused", ["set", "url", 1], ["receive", "go"])
    assert client.get(f"/workflows/{id}/events/url").status_code == 200
    away()
    requests = [
        ("GET", "/readyz", None),
        ("POST", "/workflows", {"name": "echo", "input": 1}),
        ("POST", "/workflows?wait_for_result=true", {"name": "echo", "input": 1}),
        ("GET", "/workflows", None),
        ("GET", f"/workflows/{id}", None),
        ("GET", f"/workflows/{id}/result?timeout=60", None),
        ("GET", f"/workflows/{id}/events", None),
        ("GET", f"/workflows/{id}/events/url?timeout=60", None),
        ("GET", f"/workflows/{id}/events?key=url&timeout=60", None),
        ("GET", f"/workflows/{id}/history?timeout=60", None),
        ("GET", f"/workflows/{id}/steps", None),
        ("GET", f"/workflows/{id}/messages", None),
        ("GET", f"/workflows/{id}/stream", None),
        ("POST", f"/workflows/{id}/messages", {"topic": "go", "payload": 1}),
        ("POST", f"/workflows/{id}/cancel", None),
        ("POST", f"/workflows/{id}/resume", None),
        ("DELETE", f"/workflows/{id}", None),
        ("POST", "/callbacks/nothing", 1),
    ]
    for _ in range(2):  # at once, and when the loss has been noticed
        for method, path, body in requests:
            told = f"{method} {path}"
            began = time.monotonic()
            response = client.request(method, path, json=body) if body else client.request(method, path)
            took = time.monotonic() - began
            assert response.status_code == 503, f"{told}: {response.status_code} {response.text}"
            assert response.json()["code"] == "database-unavailable", told
            assert int(response.headers["Retry-After"]) >= 1, told
            assert took < 1.5, f"{told} took {took:.2f} s"
        assert client.get("/healthz").status_code == 200
        assert client.get("/definitions").status_code == 200


def test_whoever_waits_goes_on_waiting_and_is_answered_when_it_is_back(client, service, database, away, meanwhile):
    id = start(client, "waits", ["receive", "go"], ["set", "url", "there"], ["return", "done"])
    assert client.get(f"/workflows/{id}/events/url?timeout=0").status_code == 202
    event = meanwhile(client.get, f"/workflows/{id}/events/url?timeout=60")
    board = meanwhile(client.get, f"/workflows/{id}/events?key=url&timeout=60")
    result = meanwhile(client.get, f"/workflows/{id}/result?timeout=60")
    log = meanwhile(client.get, f"/workflows/{id}/history?timeout=60")
    waiting = [event, board, result, log]
    # Each has been looked for once, and waits: a request that follows all of them has been answered.
    eventually_sync(lambda: client.get(f"/workflows/{id}").json()["status"] == "WAITING")

    away()
    eventually_sync(lambda: client.get("/readyz").status_code == 503)
    assert not any(answer.done() for answer in waiting)
    database.start()
    eventually_sync(service.ready)
    assert not any(answer.done() for answer in waiting)
    assert send(client, id).is_success

    assert [answer.result(20).status_code for answer in waiting] == [200] * 4
    assert event.result().json()["value"] == "there"
    assert result.result().json()["output"] == "done"


def test_whose_time_is_up_meanwhile_gets_no_guess(client: httpx.Client, away, meanwhile):
    id = start(client, "guess", ["receive", "go"])
    eventually_sync(lambda: client.get(f"/workflows/{id}").json()["status"] == "WAITING")
    polls = [meanwhile(client.get, f"/workflows/{id}/{what}?timeout=2") for what in ("events/url", "result")]
    assert client.get(f"/workflows/{id}/events/url?timeout=0.1").status_code == 202
    away()
    for poll in polls:
        assert (poll.result().status_code, poll.result().json()["code"]) == (503, "database-unavailable")


def test_a_start_that_waits_is_answered_as_started_though_the_wait_broke(client: httpx.Client, away, meanwhile):
    body = {"name": "scripted", "id": "broken", "input": [["receive", "go"]]}
    started = meanwhile(client.post, "/workflows?wait_for=url&timeout=2", json=body)
    eventually_sync(lambda: client.get("/workflows/broken").json().get("status") == "WAITING")
    away()
    assert started.result().status_code == 201
    assert started.result().json()["events"]["url"]["state"] == "pending"


def test_no_workflow_fails_because_of_it_and_nothing_is_done_twice(
    client: httpx.Client, service: Service, database: Database, tmp_path: Path
):
    log = tmp_path / "executions"
    names = [name for name in trials.NAMES if name != "receives"]
    ids: list[str] = []
    for crash in range(3):
        before = len(notes(log))
        ids += [
            begin(client, f"{name}-{crash}-{n}", name, {"log": str(log), "pace": 0.15})
            for name in names
            for n in range(2)
        ]
        eventually_sync(lambda: len(notes(log)) >= before + 20, timeout=30)  # noqa: B023
        database.crash()
        database.start()
    for id in ids:
        workflow = client.get(f"/workflows/{id}/result?timeout=60").json()
        assert (workflow["status"], workflow["attempts"]) == ("SUCCEEDED", 1), workflow
        events = client.get(f"/workflows/{id}/history").json()["events"]
        assert [event["position"] for event in events] == list(range(1, len(events) + 1))
        assert [[e["key"], e["value"]] for e in events if e["key"] != "progress"] == workflow["output"]

    executions: dict[tuple[str, str], int] = {}
    for line in notes(log):
        id, label, _, _ = line.split()
        executions[id, label] = executions.get((id, label), 0) + 1
    twice = {
        (id, label): times
        for (id, label), times in executions.items()
        if times > (3 if label == "r" else 1) and not label.startswith("x")
    }
    assert not twice, "a step was run again, though its process had its result all the time"
    effects = database.ask("select workflow_id, label, count(*) from effects group by 1, 2")
    assert len(effects) == 4 * 6
    assert {count for _, _, count in effects} == {1}


def test_what_was_acknowledged_before_is_there_afterwards(client: httpx.Client, service, database, meanwhile):
    """Customers order all the time, while the database crashes thrice. A refused order is sent again."""
    stop = False

    def order(customer: int) -> list[str]:
        ids: list[str] = []
        while not stop:
            id = f"order-{customer}-{len(ids)}"
            response = client.post("/workflows", json={"name": "echo", "id": id, "input": id})
            assert response.status_code in (200, 201, 503), response.text
            if response.is_success:
                ids.append(id)
        return ids

    customers = [meanwhile(order, customer) for customer in range(4)]
    for _ in range(3):
        begun = client.get("/workflows?name=echo&limit=1").json()
        eventually_sync(lambda: client.get("/workflows?name=echo&limit=1").json() != begun)  # noqa: B023
        database.crash()
        database.start()
        eventually_sync(service.ready)
    stop = True
    ids = [id for customer in customers for id in customer.result()]
    assert ids
    for id in ids:
        assert client.get(f"/workflows/{id}/result?timeout=20").json()["output"] == id


def test_a_service_that_is_started_without_its_database_says_so_each_second(database, away, tmp_path):
    away()
    service = Service(tmp_path, {"DATABASE_URL": database.url, "EXAMPLES": False}).spawn()
    try:
        eventually_sync(lambda: service.log.count("waiting for the database") >= 3, message=lambda: service.log)
        lines = plain(service.log).splitlines()
        assert all("waiting for the database" in line and "reason=" in line for line in lines)
        left = [int(seconds) for seconds in re.findall(r"seconds_left=(\d+)", plain(service.log))]
        assert len(set(left)) == len(left)
        assert left[0] - left[2] == pytest.approx(2, abs=1)
        database.start()
        eventually_sync(service.ready, timeout=20, message=lambda: service.log)
    finally:
        service.kill()
