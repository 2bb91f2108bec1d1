"""Each status that the document has for an operation is really given, as the document describes it.

That no other is given is seen by all tests over HTTP: their clients hold every answer to the document.
"""

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest

from app.api import router
from app.api.application import build
from app.api.openapi import operations
from app.engine.runtime import Runtime
from app.store.embedded import EmbeddedPostgres
from tests.support.conformance import Conformance
from tests.support.keys import issue
from tests.support.service import ROOT, Service
from tests.support.waiting import eventually_sync

DOCUMENT = json.loads((ROOT / "openapi.json").read_text())
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation) for method, path, operation in operations(DOCUMENT)
}
ANSWERS = [(id, int(status)) for id, (_, _, operation) in OPERATIONS.items() for status in operation["responses"]]
WAITS: list[list[Any]] = [["set", "here", 1], ["receive", "go"]]
ENDS: list[list[Any]] = [["set", "here", 1]]
START = {"name": "scripted", "input": WAITS}
MESSAGE = {"topic": "go", "payload": {"status": "paid"}}
BODIES: dict[str, Any] = {"start_workflow": START, "send_message": MESSAGE, "complete_callback": 1}
LARGE = b" " * 1_114_113
NO_UTF_8 = "%ff"


class Stage:
    """A service, with what it takes to have it answer in each way."""

    def __init__(self, client: httpx.Client, secrets: dict[str, str]) -> None:
        self.client, self.secrets = client, secrets

    def ask(self, operation: str, **given: Any) -> httpx.Response:
        return self.client.send(self.request(operation, **given))

    def request(self, operation: str, *, query: dict[str, Any] | None = None, **given: Any) -> httpx.Request:
        """An operation's request; path parameters by name, and options of httpx."""
        method, path, _ = OPERATIONS[operation]
        for name in ("id", "key", "name", "code", "token"):
            path = path.replace(f"{{{name}}}", given.pop(name, "nowhere"))
        if operation in BODIES and "content" not in given:
            given.setdefault("json", BODIES[operation])
        return self.client.build_request(method, path, params=query, **given)

    def start(self, script: list[list[Any]], *, wait: str = "wait_for=here") -> str:
        response = self.client.post(f"/workflows?{wait}&timeout=20", json={"name": "scripted", "input": script})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    @property
    def waiting(self) -> str:
        return self.start(WAITS)

    @property
    def ended(self) -> str:
        return self.start(ENDS, wait="wait_for_result=true")

    def token(self) -> str:
        id = self.start([["callback", "go", "url"], *WAITS])
        url = self.client.get(f"/workflows/{id}/events/url").json()["value"]
        return str(url.rpartition("/")[2])

    def twice(self, operation: str, **given: Any) -> httpx.Response:
        self.ask(operation, **given)
        return self.ask(operation, **given)


def unmodified(stage: Stage) -> httpx.Response:
    known = stage.ask("get_event", id=(id := stage.ended), key="here")
    return stage.ask("get_event", id=id, key="here", headers={"If-None-Match": known.headers["ETag"]})


def read_to_the_end(stage: Stage) -> httpx.Response:
    return stage.ask("stream_events", id=stage.ended, headers={"Last-Event-ID": "1.end"})


def used(stage: Stage) -> httpx.Response:
    token = stage.token()
    assert stage.ask("complete_callback", token=token).status_code == 204
    return stage.ask("complete_callback", token=token, json=2)


def in_conflict(stage: Stage) -> httpx.Response:
    id = f"w-{uuid4()}"
    stage.ask("start_workflow", json={**START, "id": id})
    return stage.ask("start_workflow", json={**START, "id": id, "input": []})


LOOK = {"timeout": 0}
OWN: dict[tuple[str, int], Callable[[Stage], httpx.Response]] = {
    ("start_workflow", 200): lambda s: s.twice("start_workflow", json={**START, "id": f"w-{uuid4()}"}),
    ("start_workflow", 201): lambda s: s.ask("start_workflow", query={"wait_for": ["here"]}),
    ("start_workflow", 404): lambda s: s.ask("start_workflow", json={"name": "nothing"}),
    ("start_workflow", 409): in_conflict,
    ("list_workflows", 200): lambda s: s.ask("list_workflows", query={"limit": 1}),
    ("get_workflow", 200): lambda s: s.ask("get_workflow", id=s.ended),
    ("delete_workflow", 204): lambda s: s.ask("delete_workflow", id=s.ended),
    ("delete_workflow", 409): lambda s: s.ask("delete_workflow", id=s.waiting),
    ("get_result", 200): lambda s: s.ask("get_result", id=s.ended),
    ("get_result", 202): lambda s: s.ask("get_result", id=s.waiting, query=LOOK),
    ("list_steps", 200): lambda s: s.ask("list_steps", id=s.start([["step", 1], *WAITS])),
    ("cancel_workflow", 200): lambda s: s.ask("cancel_workflow", id=s.waiting),
    ("cancel_workflow", 409): lambda s: s.ask("cancel_workflow", id=s.ended),
    ("resume_workflow", 200): lambda s: s.ask("resume_workflow", id=s.waiting),
    ("resume_workflow", 409): lambda s: s.ask("resume_workflow", id=s.ended),
    ("get_event", 200): lambda s: s.ask("get_event", id=s.waiting, key="here"),
    ("get_event", 202): lambda s: s.ask("get_event", id=s.waiting, key="there", query=LOOK),
    ("get_event", 304): unmodified,
    ("get_event", 410): lambda s: s.ask("get_event", id=s.ended, key="there"),
    ("list_events", 200): lambda s: s.ask("list_events", id=s.waiting),
    ("list_events", 202): lambda s: s.ask("list_events", id=s.waiting, query={"key": ["here", "there"], **LOOK}),
    ("list_events", 410): lambda s: s.ask("list_events", id=s.ended, query={"key": ["here", "there"]}),
    ("get_history", 200): lambda s: s.ask("get_history", id=s.ended),
    ("stream_events", 200): lambda s: s.ask("stream_events", id=s.ended),
    ("stream_events", 204): read_to_the_end,
    ("send_message", 200): lambda s: s.twice("send_message", id=s.waiting, headers={"Idempotency-Key": "k"}),
    ("send_message", 201): lambda s: s.ask("send_message", id=s.waiting),
    ("send_message", 409): lambda s: s.ask("send_message", id=s.ended),
    ("list_messages", 200): lambda s: s.ask("list_messages", id=s.waiting),
    ("complete_callback", 204): lambda s: s.ask("complete_callback", token=s.token()),
    ("complete_callback", 409): used,
    ("complete_callback", 422): lambda s: s.ask("complete_callback", json="\0"),
    ("get_definition", 200): lambda s: s.ask("get_definition", name="checkout"),
    ("explain_problem", 200): lambda s: s.ask("explain_problem", code="draining"),
    ("explain_problem", 422): lambda s: s.ask("explain_problem", code=NO_UTF_8),
}
ANY: dict[int, Callable[[Stage, str], httpx.Response]] = {
    200: lambda stage, operation: stage.ask(operation),
    401: lambda stage, operation: stage.ask(operation, headers={"Authorization": "Bearer of nothing"}),
    403: lambda stage, operation: stage.ask(operation, headers={"Authorization": f"Bearer {stage.secrets['read']}"}),
    404: lambda stage, operation: stage.ask(operation),
    413: lambda stage, operation: stage.ask(operation, content=LARGE),
    415: lambda stage, operation: stage.ask(operation, content=b"1", headers={"Content-Type": "text/plain"}),
    422: lambda stage, operation: stage.ask(operation, query={"nothing": 1}),
}
"""For what has no way of its own."""
REFUSED_AT_THE_DOOR = {400: [(b"Origin", b"null")] * 2, 421: [(b"Host", b"elsewhere.example")]}
"""Of a service that has no keys, in which requests from elsewhere could do anything."""


@pytest.fixture(scope="module")
def stage(databases, template, tmp_path_factory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("answers")
    secrets = issue(folder / "keys", read="read", write="write")
    settings = {
        "API_KEYS_FILE": folder / "keys",
        "WORKFLOWS": "tests.support.workflows",
        "LINGER": 0.1,
    }
    with databases.clone(template) as url, Service(folder, {"DATABASE_URL": url, **settings}) as service:
        service.key = secrets["write"]
        with service.client() as client:
            client.event_hooks["response"] = [Conformance(client.get("/openapi.json").json())]
            yield Stage(client, secrets)


@pytest.fixture(scope="module")
def without_database(tmp_path_factory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("away")
    postgres = EmbeddedPostgres(folder / "postgres", fsync=False)
    postgres.start()
    try:
        settings = {"DATABASE_URL": postgres.url(), "WORKFLOWS": "tests.support.workflows"}
        with Service(folder, settings) as service, service.client() as client:
            postgres.stop()
            client.event_hooks["response"] = [Conformance(DOCUMENT)]
            eventually_sync(lambda: client.get("/readyz").status_code == 503)
            yield Stage(client, {})
    finally:
        postgres.stop()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> httpx.ASGITransport:
    """The application with routes whose code fails in a way that nobody has foreseen."""

    async def fails(*_: Any) -> None:
        raise RuntimeError("something broke")

    for route in router.routes():
        monkeypatch.setattr(route, "app", fails)
    return httpx.ASGITransport(cast("Any", build(cast("Runtime", SimpleNamespace(draining=False)))))


@pytest.mark.parametrize(("operation", "status"), [(id, s) for id, s in ANSWERS if s in ANY or (id, s) in OWN])
def test_an_answer_that_is_described_is_given(stage: Stage, operation: str, status: int):
    produce = OWN.get((operation, status))
    response = produce(stage) if produce else ANY[status](stage, operation)
    assert response.status_code == status, response.text


@pytest.mark.parametrize(("operation", "status"), [(id, s) for id, s in ANSWERS if s in REFUSED_AT_THE_DOOR])
def test_a_request_is_refused_at_the_door(without_database: Stage, operation: str, status: int):
    request = without_database.request(operation)
    kept = [(name, value) for name, value in request.headers.raw if status == 400 or name != b"Host"]
    request.headers = httpx.Headers([*kept, *REFUSED_AT_THE_DOOR[status]])
    assert without_database.client.send(request).status_code == status


@pytest.mark.parametrize("operation", [operation for operation, status in ANSWERS if status == 503])
def test_it_is_told_that_the_database_is_away(without_database: Stage, operation: str):
    assert without_database.ask(operation).status_code == 503


@pytest.mark.parametrize("operation", [operation for operation, status in ANSWERS if status == 500])
async def test_whatever_breaks_is_told_in_the_same_way(broken: httpx.ASGITransport, operation: str):
    conformance = Conformance(DOCUMENT)
    method, path, _ = OPERATIONS[operation]
    async with httpx.AsyncClient(transport=broken, base_url="http://localhost") as client:
        response = await client.request(method, path.replace("{", "").replace("}", ""))
        assert response.status_code == 500
        conformance(response)


def test_all_that_is_described_is_looked_for():
    elsewhere = {*ANY, *REFUSED_AT_THE_DOOR, 500, 503}
    assert not [answer for answer in ANSWERS if answer not in OWN and answer[1] not in elsewhere]
    assert set(OWN) <= set(ANSWERS), "something is produced that is not described"
