"""A workflow is a function that is started by a request, and runs to its end whatever happens."""

from collections.abc import Callable

import httpx


def test_a_workflow_is_started_and_its_result_is_waited_for(client: httpx.Client):
    started = client.post("/workflows", json={"name": "greet", "id": "greeting", "input": "Ada"})
    assert started.status_code == 201
    assert started.headers["Location"] == "/workflows/greeting"

    ended = client.get("/workflows/greeting/result?timeout=25")
    assert ended.status_code == 200
    assert (ended.json()["status"], ended.json()["output"]) == ("SUCCEEDED", "Hello, Ada!")


def test_one_request_can_start_a_workflow_and_wait_for_its_result(client: httpx.Client):
    started = client.post("/workflows?wait_for_result=true&timeout=25", json={"name": "greet", "input": "Bea"})
    assert started.status_code == 201
    assert started.json()["output"] == "Hello, Bea!"


def test_a_start_that_is_sent_twice_is_one_workflow(client: httpx.Client):
    order = {"name": "order", "id": "twice", "input": "A1"}
    first, second = client.post("/workflows", json=order), client.post("/workflows", json=order)

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["id"] == first.json()["id"]
    assert second.json()["created_at"] == first.json()["created_at"]


def test_a_start_that_is_sent_many_times_at_once_is_one_workflow(client: httpx.Client, meanwhile):
    order = {"name": "order", "id": "at-once", "input": "A1"}
    answers = [meanwhile(client.post, "/workflows", json=order) for _ in range(20)]
    assert sorted(answer.result().status_code for answer in answers) == [200] * 19 + [201]


def test_an_id_that_was_used_for_another_input_is_refused(client: httpx.Client, start: Callable[..., str]):
    start("greet", "Ada", id="taken")
    refused = client.post("/workflows", json={"name": "greet", "id": "taken", "input": "Bea"})
    assert (refused.status_code, refused.json()["code"]) == (409, "workflow-id-conflict")
    assert client.get("/workflows/taken").json()["input"] == "Ada"


def test_a_key_in_the_header_does_what_an_id_does(client: httpx.Client):
    greet, key = {"name": "greet", "input": "Ada"}, {"Idempotency-Key": "click-17"}
    first, second = (client.post("/workflows", json=greet, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


def test_without_an_id_each_start_is_a_new_workflow(start: Callable[..., str]):
    assert start("greet", "Ada") != start("greet", "Ada")


def test_an_input_that_does_not_fit_is_refused_with_its_place(client: httpx.Client):
    refused = client.post("/workflows", json={"name": "greet", "id": "unfit", "input": 5})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-input")
    assert refused.json()["errors"][0]["pointer"].startswith("/input")
    assert client.get("/workflows/unfit").status_code == 404


def test_a_failure_is_a_result_too(start: Callable[..., str], result):
    failed = result(start("greet", ""))
    assert (failed["status"], failed["output"]) == ("FAILED", None)
    assert failed["error"]["type"] == "ValueError"
    assert failed["error"]["message"] == "nobody is there to be greeted"
