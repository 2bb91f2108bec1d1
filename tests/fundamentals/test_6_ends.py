"""A workflow may also be ended from outside, be brought back, and be forgotten."""

import httpx

from tests.support.waiting import eventually_sync


def test_a_cancelled_workflow_is_cancelled_at_once_and_for_good(client: httpx.Client, start, send, result):
    id = start("order", "A1")
    assert client.get(f"/workflows/{id}/events/payment_url?timeout=25").status_code == 200

    cancelled = client.post(f"/workflows/{id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    assert client.post(f"/workflows/{id}/cancel").status_code == 200, "again is no error"
    assert send(id, "payment", "paid").status_code == 409
    assert client.get(f"/workflows/{id}/events/status").status_code == 410
    assert client.get(f"/workflows/{id}/events/payment_url").status_code == 200, "what was published stays"


def test_a_workflow_that_has_ended_by_itself_can_not_be_cancelled(client: httpx.Client, start, result):
    id = start("greet", "Ada")
    result(id)
    refused = client.post(f"/workflows/{id}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "workflow-finished")


def test_a_cancel_starts_the_workflow_that_cleans_up(client: httpx.Client, start, result):
    id = start("book", "room 7")
    client.post(f"/workflows/{id}/cancel")

    assert result(f"{id}:abort")["output"] == f"{id} was CANCELLED"
    assert client.get(f"/workflows/{id}:abort/events/released").json()["value"] == "room 7"
    late = client.post(f"/workflows/{id}/resume")
    assert (late.status_code, late.json()["code"]) == (409, "workflow-aborted")


def test_a_workflow_that_has_no_time_left_is_timed_out(start, result):
    timed_out = result(start("nap", 600, timeout=0.5))
    assert timed_out["status"] == "TIMED_OUT"
    assert timed_out["output"] is None


def test_a_cancel_reaches_the_children(client: httpx.Client, start, result):
    id = start("family")
    child = client.get(f"/workflows/{id}/events/child?timeout=25").json()["value"]
    client.post(f"/workflows/{id}/cancel")
    assert result(child)["status"] == "CANCELLED"


def test_a_cancelled_workflow_can_be_resumed_where_it_was(client: httpx.Client, start, send, result):
    id = start("collect", ["item", "item"])
    send(id, "item", "one")
    eventually_sync(lambda: client.get(f"/workflows/{id}/steps").json()["steps"])
    client.post(f"/workflows/{id}/cancel")

    resumed = client.post(f"/workflows/{id}/resume")
    assert (resumed.status_code, resumed.json()["id"]) == (200, id)
    send(id, "item", "two")
    assert result(id)["output"] == ["one", "two"]


def test_a_deleted_workflow_is_gone_and_its_id_is_free(client: httpx.Client, start, result):
    id = start("greet", "Ada")
    result(id)
    assert client.delete(f"/workflows/{id}").status_code == 204
    for path in ("", "/result", "/events/any", "/history", "/steps", "/messages"):
        assert client.get(f"/workflows/{id}{path}").status_code == 404
    assert result(start("greet", "Bea", id=id))["output"] == "Hello, Bea!"


def test_a_workflow_that_is_active_is_not_deleted(client: httpx.Client, start):
    id = start("diary")
    refused = client.delete(f"/workflows/{id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "workflow-active")
