"""Starting a workflow: idempotency, the order of checks, and waiting in the same request."""

import re
import time
from uuid import UUID, uuid4

import pytest


@pytest.fixture
def id():
    return f"order-{uuid4()}"


def test_a_start_is_created_and_echoes_what_was_sent(client, id):
    tags = {"shop": "eu"}
    response = client.post(
        "/workflows", json={"name": "echo", "input": {"b": [1.0, None], "a": 2}, "id": id, "tags": tags}
    )
    assert response.status_code == 201
    assert response.headers["Location"] == f"/workflows/{id}"
    workflow = response.json()
    assert workflow["status"] == response.headers["Workflow-Status"]
    assert list(workflow["input"]) == ["b", "a"]
    assert (workflow["id"], workflow["name"], workflow["version"], workflow["tags"]) == (id, "echo", "1", tags)
    assert (workflow["attempts"], workflow["priority"], workflow["output"], workflow["error"]) == (1, 0, None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", workflow["created_at"])
    assert "events" not in workflow


def test_an_id_is_made_when_none_is_given(client):
    assert UUID(client.post("/workflows", json={"name": "mute"}).json()["id"]).version == 7


def test_the_same_start_again_is_the_same_workflow(client, id):
    first = client.post("/workflows", json={"name": "echo", "input": {"a": 1, "b": True}, "id": id})
    again = client.post("/workflows", json={"id": id, "input": {"b": True, "a": 1.0}, "name": "echo", "delay": 5})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["created_at"] == first.json()["created_at"]
    assert again.headers["Location"] == f"/workflows/{id}"


@pytest.mark.parametrize("other", [{"name": "echo", "input": 2}, {"name": "echo", "input": True}, {"name": "mute"}])
def test_another_start_under_the_same_id_is_a_conflict(client, id, other):
    assert client.post("/workflows", json={"name": "echo", "input": 1, "id": id}).status_code == 201
    response = client.post("/workflows", json={**other, "id": id})
    assert (response.status_code, response.json()["code"]) == (409, "workflow-id-conflict")


def test_null_and_absent_are_the_same_input(client, id):
    assert client.post("/workflows", json={"name": "mute", "id": id}).status_code == 201
    assert client.post("/workflows", json={"name": "mute", "input": None, "id": id}).status_code == 200


def test_an_idempotency_key_stands_for_an_id(client):
    headers = {"Idempotency-Key": f"key-{uuid4()}"}
    first = client.post("/workflows", json={"name": "echo", "input": 1}, headers=headers)
    again = client.post("/workflows", json={"name": "echo", "input": 1}, headers=headers)
    other_name = client.post("/workflows", json={"name": "count", "input": 1}, headers=headers)
    conflict = client.post("/workflows", json={"name": "echo", "input": 2}, headers=headers)
    own_id = client.post("/workflows", json={"name": "echo", "input": 3, "id": f"w-{uuid4()}"}, headers=headers)
    statuses = [response.status_code for response in (first, again, other_name, conflict, own_id)]
    assert statuses == [201, 200, 201, 409, 201]
    assert UUID(first.json()["id"]).version == 5
    assert first.json()["id"] == again.json()["id"] != other_name.json()["id"]


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "caf\u00e9"])
def test_a_bad_idempotency_key_is_refused(client, key):
    response = client.post("/workflows", json={"name": "mute"}, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (422, "Idempotency-Key")


class TestTheOrderOfChecks:
    def test_syntax_comes_first(self, client, id):
        client.post("/workflows", json={"name": "echo", "input": 1, "id": id})
        response = client.post("/workflows", json={"name": "echo", "input": 1, "id": id, "more": 1})
        assert (response.status_code, response.json()["errors"]) == (
            422,
            [{"pointer": "/more", "message": "there is no such member"}],
        )

    def test_a_known_id_comes_before_what_is_registered_and_typed(self, client, id):
        client.post("/workflows", json={"name": "count", "input": 1, "id": id})
        for body in ({"name": "gone"}, {"name": "count", "input": "x"}, {"name": "mute", "input": 5}):
            response = client.post("/workflows", json={**body, "id": id, "queue": "nowhere"})
            assert (response.status_code, response.json()["code"]) == (409, "workflow-id-conflict")
        assert client.post("/workflows", json={"name": "count", "input": 1, "id": id, "queue": "q"}).status_code == 200

    def test_a_name_comes_before_its_input(self, client):
        response = client.post("/workflows", json={"name": "os.system", "input": 1, "queue": "nowhere"})
        assert (response.status_code, response.json()["code"]) == (404, "workflow-not-registered")
        assert {"echo", "mute", "scripted", "checkout"} <= set(response.json()["registered"])

    def test_the_input_comes_before_the_queue(self, client):
        response = client.post("/workflows", json={"name": "count", "input": "x", "queue": "nowhere"})
        assert (response.status_code, response.json()["code"]) == (422, "invalid-input")
        assert [fault["pointer"] for fault in response.json()["errors"]] == ["/input"]

    def test_an_unknown_queue_is_not_found(self, client):
        response = client.post("/workflows", json={"name": "count", "input": 1, "queue": "nowhere"})
        assert (response.status_code, response.json()["code"]) == (404, "queue-not-found")

    def test_a_workflow_without_input_takes_none(self, client):
        response = client.post("/workflows", json={"name": "mute", "input": {}})
        assert (response.status_code, response.json()["code"]) == (422, "invalid-input")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", None),
        ("name", 5),
        ("name", "a/b"),
        ("name", ""),
        ("name", "n" * 65),
        ("id", ""),
        ("id", "."),
        ("id", ".."),
        ("id", "a/b"),
        ("id", "é"),
        ("id", "i" * 129),
        ("id", "schedule:x"),
        ("id", 5),
        ("queue", ""),
        ("priority", 1),
        ("priority", "1"),
        ("priority", 1.5),
        ("priority", True),
        ("partition", "p"),
        ("deduplication_id", "d"),
        ("delay", -1),
        ("delay", "1"),
        ("delay", 10**9),
        ("delay", 10**400),
        ("delay", True),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", 10**9),
        ("tags", []),
        ("tags", {"a": 1}),
        ("tags", {"a b": "x"}),
        ("tags", {"a": "x" * 201}),
        ("tags", {f"t{n}": "" for n in range(33)}),
        ("status", "SUCCEEDED"),
        ("version", "1"),
    ],
)
def test_a_bad_member_is_named(client, member, value):
    response = client.post("/workflows", json={"name": "mute", member: value})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert response.json()["errors"][0]["pointer"].startswith(f"/{member}")


def test_a_bad_name_of_a_tag_is_named_as_the_member_that_it_is(client):
    response = client.post("/workflows", json={"name": "mute", "tags": {"a/b": "x", "good": "", "": "y"}})
    assert [fault["pointer"] for fault in response.json()["errors"]] == ["/tags/a~1b", "/tags/"]


def test_a_priority_is_of_32_bit_and_needs_a_queue(client):
    for priority, status in ((2**31 - 1, 404), (-(2**31), 404), (2**31, 422), (-(2**31) - 1, 422)):
        body = {"name": "mute", "queue": "nowhere", "priority": priority, "partition": "p", "deduplication_id": "d"}
        assert client.post("/workflows", json=body).status_code == status


def test_null_means_the_definitions_own(client):
    members = ("id", "queue", "priority", "partition", "deduplication_id", "delay", "timeout", "tags", "input")
    response = client.post("/workflows", json={"name": "mute", **dict.fromkeys(members)})
    assert response.status_code == 201
    assert (response.json()["tags"], response.json()["priority"]) == ({}, 0)


@pytest.mark.parametrize("body", ["[]", '"x"', "5", "null", '[{"name": "mute"}]'])
def test_an_envelope_is_an_object(client, body):
    response = client.post("/workflows", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "")


def test_a_delayed_start_is_queued(client, id):
    workflow = client.post("/workflows", json={"name": "mute", "id": id, "delay": 600}).json()
    assert (workflow["status"], workflow["started_at"]) == ("QUEUED", None)
    assert workflow["wake_at"] > workflow["created_at"]
    assert client.post(f"/workflows/{id}/cancel").json()["status"] == "CANCELLED"


class TestWaiting:
    def test_a_start_answers_with_the_event_that_it_waits_for(self, client):
        script = [["set", "url", "https://pay"], ["receive", "go"]]
        response = client.post("/workflows?wait_for=url", json={"name": "scripted", "input": script})
        assert response.status_code == 201
        event = response.json()["events"]["url"]
        assert (event["state"], event["value"], event["position"]) == ("set", "https://pay", 1)
        assert event["workflow_id"] == response.json()["id"]

    def test_the_status_stays_whatever_the_wait_brings(self, client, id):
        body = {"name": "scripted", "input": [["receive", "go"]], "id": id}
        for status in (201, 200):
            began = time.monotonic()
            response = client.post("/workflows?wait_for=a&wait_for=b&timeout=0.2", json=body)
            assert time.monotonic() - began >= 0.2
            assert response.status_code == status
            assert {key: event["state"] for key, event in response.json()["events"].items()} == {
                "a": "pending",
                "b": "pending",
            }

    def test_an_event_that_cannot_come_ends_the_wait(self, client):
        began = time.monotonic()
        response = client.post("/workflows?wait_for=a&timeout=30", json={"name": "mute"})
        assert time.monotonic() - began < 20
        assert (response.status_code, response.json()["events"]["a"]["state"]) == (201, "never")
        assert response.json()["status"] == "SUCCEEDED"

    def test_any_is_answered_at_the_first(self, client):
        body = {"name": "scripted", "input": [["set", "a", 1], ["receive", "go"]]}
        response = client.post("/workflows?wait_for=a&wait_for=b&mode=any&timeout=30", json=body)
        assert {key: event["state"] for key, event in response.json()["events"].items()} == {"a": "set", "b": "pending"}

    def test_a_start_answers_with_the_result(self, client):
        response = client.post("/workflows?wait_for_result=true", json={"name": "echo", "input": [1]})
        assert (response.status_code, response.headers["Workflow-Status"]) == (201, "SUCCEEDED")
        assert (response.json()["status"], response.json()["output"]) == ("SUCCEEDED", [1])
        assert "events" not in response.json()

    def test_a_result_that_does_not_come_in_time_leaves_the_workflow_as_it_stands(self, client):
        body = {"name": "scripted", "input": [["set", "a", 1], ["receive", "go"]]}
        response = client.post("/workflows?wait_for=a&wait_for_result=true&timeout=0.3", json=body)
        assert response.status_code == 201
        assert response.json()["status"] in ("RUNNING", "WAITING")
        assert response.json()["events"]["a"]["state"] == "set"

    def test_a_retry_joins_the_wait(self, client, id, send, meanwhile):
        body = {"name": "scripted", "input": [["receive", "go"], ["set", "a", 1], ["receive", "go"]], "id": id}
        first = meanwhile(client.post, "/workflows?wait_for=a&timeout=30", json=body)
        again = meanwhile(client.post, "/workflows?wait_for=a&timeout=30", json=body)
        while client.get(f"/workflows/{id}").status_code == 404:
            pass
        send(id)
        answers = [first.result(20), again.result(20)]
        assert sorted(answer.status_code for answer in answers) == [200, 201]
        assert [answer.json()["events"]["a"]["value"] for answer in answers] == [1, 1]

    def test_defaults_are_accepted_without_a_wait(self, client):
        response = client.post("/workflows?mode=all&timeout=60&wait_for_result=false", json={"name": "mute"})
        assert (response.status_code, "events" in response.json()) == (201, False)

    def test_a_bad_wait_starts_nothing(self, client, id):
        for query in ("wait_for=a%2Fb", "wait_for_result=yes", "mode=some", "timeout=x", "x=1", "wait_for="):
            response = client.post(f"/workflows?{query}", json={"name": "mute", "id": id})
            assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
        assert client.get(f"/workflows/{id}").status_code == 404
