"""Reading, listing and steering workflows."""

import time
from uuid import uuid4

import pytest


def test_a_workflow_is_read(client, start, ended):
    id = start(["return", {"a": [1]}])
    workflow = ended(id)
    assert (workflow["status"], workflow["output"], workflow["error"]) == ("SUCCEEDED", {"a": [1]}, None)
    assert workflow["created_at"] <= workflow["started_at"] <= workflow["completed_at"] == workflow["updated_at"]
    response = client.get(f"/workflows/{id}")
    assert (response.status_code, response.json()) == (200, workflow)
    assert response.headers["Workflow-Status"] == "SUCCEEDED"
    assert client.head(f"/workflows/{id}").headers["Workflow-Status"] == "SUCCEEDED"


def test_an_unknown_workflow_is_not_found(client):
    for path in ("", "/result", "/steps", "/messages", "/events", "/events/k", "/history", "/stream"):
        response = client.get(f"/workflows/nowhere{path}")
        assert (response.status_code, response.json()["code"]) == (404, "workflow-not-found")
    for path in ("/cancel", "/resume"):
        assert client.post(f"/workflows/nowhere{path}").json()["code"] == "workflow-not-found"
    assert client.delete("/workflows/nowhere").json()["code"] == "workflow-not-found"


class TestTheResult:
    def test_a_failed_workflow_is_data(self, client, start):
        id = start(["fail", "out of stock"])
        response = client.get(f"/workflows/{id}/result")
        assert response.status_code == 200
        error = response.json()["error"]
        assert (response.json()["status"], error["type"], error["message"]) == (
            "FAILED",
            "RuntimeError",
            "out of stock",
        )
        assert error["step"] is None

    def test_it_is_waited_for(self, client, start, send, meanwhile):
        id = start(["receive", "go"])
        waiting = meanwhile(client.get, f"/workflows/{id}/result?timeout=30")
        send(id, payload="done")
        assert (waiting.result(20).status_code, waiting.result().json()["output"]) == (200, "done")

    def test_the_time_is_up(self, client, start):
        id = start(["receive", "go"])
        began = time.monotonic()
        response = client.get(f"/workflows/{id}/result?timeout=0.2")
        assert time.monotonic() - began >= 0.2
        assert (response.status_code, response.headers["Retry-After"]) == (202, "1")
        assert response.json()["status"] == response.headers["Workflow-Status"]
        assert client.head(f"/workflows/{id}/result").status_code == 202


class TestCancelAndResume:
    def test_a_cancel_is_at_once_and_may_be_repeated(self, client, start):
        id = start(["receive", "go"])
        for _ in range(2):
            response = client.post(f"/workflows/{id}/cancel")
            assert (response.status_code, response.json()["status"]) == (200, "CANCELLED")
            assert response.headers["Workflow-Status"] == "CANCELLED"

    def test_children_are_cancelled_unless_told_otherwise(self, client, start, at_position):
        child = ""
        for query, status in (("", "CANCELLED"), ("?children=true", "CANCELLED"), ("?children=false", None)):
            child = f"c-{uuid4()}"
            id = start(["child", child, [["receive", "go"]]], ["set", "started", True], ["receive", "go"])
            at_position(id, 1)
            assert client.post(f"/workflows/{id}/cancel{query}").status_code == 200
            found = client.get(f"/workflows/{child}").json()
            assert found["parent_id"] == id
            assert (found["status"] == "CANCELLED") is (status is not None)
        assert client.post(f"/workflows/{child}/cancel").status_code == 200

    def test_what_has_ended_is_not_cancelled(self, client, start, ended):
        id = start(["return", 1])
        ended(id)
        response = client.post(f"/workflows/{id}/cancel")
        assert (response.status_code, response.json()["code"]) == (409, "workflow-finished")
        assert response.headers["Workflow-Status"] == "SUCCEEDED"

    def test_a_cancelled_workflow_goes_on_from_its_last_step(self, client, start, send, ended, at_position):
        id = start(["step", 1], ["set", "a", 1], ["receive", "go"], ["return", "done"])
        at_position(id, 1)
        assert client.post(f"/workflows/{id}/cancel").status_code == 200
        assert client.post(f"/workflows/{id}/resume").status_code == 200
        send(id)
        assert (ended(id)["output"], ended(id)["attempts"]) == ("done", 1)
        assert client.get(f"/workflows/{id}/history").json()["position"] == 1

    def test_a_resume_drops_a_delay(self, client, start, ended):
        id = start(["return", 1], delay=600)
        assert client.post(f"/workflows/{id}/resume").status_code == 200
        assert ended(id)["status"] == "SUCCEEDED"

    def test_what_has_ended_well_is_not_resumed(self, client, start, ended):
        for script, status in ((["return", 1], "SUCCEEDED"), (["fail", "x"], "FAILED")):
            id = start(script)
            ended(id)
            response = client.post(f"/workflows/{id}/resume")
            assert (response.status_code, response.json()["code"]) == (409, "workflow-finished")
            assert response.headers["Workflow-Status"] == status

    def test_what_has_been_aborted_is_not_resumed(self, client):
        id = f"w-{uuid4()}"
        body = {"name": "checkout", "input": {"sku": "A1"}, "id": id}
        started = client.post("/workflows?wait_for=payment_url", json=body)
        assert started.json()["events"]["payment_url"]["state"] == "set", started.text
        assert client.post(f"/workflows/{id}/cancel").status_code == 200
        response = client.post(f"/workflows/{id}/resume")
        assert (response.status_code, response.json()["code"]) == (409, "workflow-aborted")
        abort = client.get(f"/workflows/{id}:abort")
        assert (abort.status_code, abort.json()["input"]["workflow_id"]) == (200, id)

    def test_a_timeout_ends_it(self, client, start, ended):
        id = start(["receive", "go"], timeout=0.2)
        workflow = ended(id)
        assert (workflow["status"], workflow["error"]["step"]) == ("TIMED_OUT", None)


class TestDeletion:
    def test_everything_under_a_workflow_goes(self, client, start, ended):
        id = start(["set", "a", 1], ["return", 1])
        ended(id)
        response = client.delete(f"/workflows/{id}")
        assert (response.status_code, response.content) == (204, b"")
        assert client.get(f"/workflows/{id}/events/a").status_code == 404
        start(["receive", "go"], id=id)
        assert client.get(f"/workflows/{id}/history").json()["events"] == []

    def test_an_active_workflow_is_not_deleted(self, client, start):
        id = start(["receive", "go"])
        response = client.delete(f"/workflows/{id}")
        assert (response.status_code, response.json()["code"]) == (409, "workflow-active")
        assert response.headers["Workflow-Status"] in ("QUEUED", "RUNNING", "WAITING")


class TestSteps:
    def test_steps_are_listed_in_order_and_pages(self, client, start, ended):
        id = start(["step", {"a": 1}], ["step", None], ["step", "x"])
        ended(id)
        first = client.get(f"/workflows/{id}/steps?limit=2")
        assert [
            (s["seq"], s["name"], s["kind"], s["status"], s["output"], s["error"]) for s in first.json()["steps"]
        ] == [
            (1, "echoed", "step", "SUCCEEDED", {"a": 1}, None),
            (2, "echoed", "step", "SUCCEEDED", None, None),
        ]
        assert first.headers["Workflow-Status"] == "SUCCEEDED"
        second = client.get(first.links["next"]["url"])
        assert ([step["seq"] for step in second.json()["steps"]], second.json()["next_cursor"]) == ([3], None)

    def test_a_child_is_named_by_its_step(self, client, start, ended):
        child = f"c-{uuid4()}"
        id = start(["child", child, []])
        ended(id)
        step = client.get(f"/workflows/{id}/steps").json()["steps"][0]
        assert (step["kind"], step["child_id"]) == ("child", child)


class TestTheList:
    @pytest.fixture
    def group(self, client, start, ended):
        """A tag value that five workflows have, oldest first, and their ids."""
        group = str(uuid4())
        ids = [start(["return", n], tags={"group": group, "n": str(n)}) for n in range(5)]
        for id in ids:
            ended(id)
        return group, ids

    def listed(self, client, query):
        response = client.get(f"/workflows?{query}")
        assert response.status_code == 200, response.text
        return [workflow["id"] for workflow in response.json()["workflows"]]

    def test_newest_come_first(self, client, group):
        tag, ids = group
        assert self.listed(client, f"tag=group:{tag}") == ids[::-1]
        assert self.listed(client, f"tag=group:{tag}&order=asc") == ids
        assert self.listed(client, f"tag=group:{tag}&tag=n:3") == [ids[3]]

    def test_pages_show_each_once(self, client, group):
        tag, ids = group
        url, seen = f"/workflows?tag=group:{tag}&limit=2&order=asc", []
        while url:
            response = client.get(url)
            seen += [workflow["id"] for workflow in response.json()["workflows"]]
            url = response.links.get("next", {}).get("url")
            assert (url is None) == (response.json()["next_cursor"] is None)
        assert seen == ids

    def test_a_cursor_carries_its_filters(self, client, group):
        tag, ids = group
        cursor = client.get(f"/workflows?tag=group:{tag}&limit=2").json()["next_cursor"]
        assert self.listed(client, f"cursor={cursor}") == ids[2::-1]
        assert self.listed(client, f"cursor={cursor}&tag=group:{tag}&limit=1") == [ids[2]]
        for others in ("&order=asc", "&tag=group:other", f"&tag=group:{tag}&tag=n:1", "&status=FAILED"):
            response = client.get(f"/workflows?cursor={cursor}{others}")
            assert (response.status_code, response.json()["code"]) == (422, "invalid-cursor")

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c[:-1],
            lambda c: ("B" if c[0] == "A" else "A") + c[1:],
            lambda c: c + "A",
            lambda c: "!",
            lambda c: "é",
            lambda c: "A" * 20_000,
        ],
    )
    def test_a_forged_cursor_is_refused(self, client, group, change):
        cursor = client.get(f"/workflows?tag=group:{group[0]}&limit=2").json()["next_cursor"]
        response = client.get("/workflows", params={"cursor": change(cursor)})
        assert (response.status_code, response.json()["code"]) == (422, "invalid-cursor")

    def test_a_cursor_of_another_listing_is_refused(self, client, group, start, ended):
        id = start(["step", 1], ["step", 2])
        ended(id)
        cursor = client.get(f"/workflows/{id}/steps?limit=1").json()["next_cursor"]
        for path in ("/workflows", "/definitions", f"/workflows/{group[1][0]}/steps"):
            assert client.get(f"{path}?cursor={cursor}").json()["code"] == "invalid-cursor"

    def test_values_are_left_out_unless_included(self, client, group):
        query = f"/workflows?tag=group:{group[0]}&limit=1"
        assert not {"input", "output", "error"} & set(client.get(query).json()["workflows"][0])
        workflow = client.get(f"{query}&include=output,input").json()["workflows"][0]
        assert (workflow["output"], workflow["input"], "error" in workflow) == (4, [["return", 4]], False)
        for bad in ("output,", "all", "input,input", "", "input%20,output"):
            assert client.get(f"/workflows?include={bad}").status_code == 422

    def test_filters_take_any_of_their_values(self, client, group):
        tag, ids = group
        assert (
            self.listed(client, f"tag=group:{tag}&name=echo&name=scripted&status=SUCCEEDED&status=FAILED") == ids[::-1]
        )
        assert self.listed(client, f"tag=group:{tag}&status=FAILED") == []
        assert self.listed(client, f"tag=group:{tag}&queue=q") == []
        assert self.listed(client, f"id_prefix={ids[1][:20]}") == [ids[1]]

    def test_times_are_exclusive(self, client, group):
        tag, ids = group
        moment = client.get(f"/workflows/{ids[2]}").json()["created_at"]
        assert self.listed(client, f"tag=group:{tag}&created_after={moment}") == ids[:2:-1]
        assert self.listed(client, f"tag=group:{tag}&created_before={moment}") == ids[1::-1]
        done = client.get(f"/workflows/{ids[4]}").json()["completed_at"]
        assert ids[4] not in self.listed(client, f"tag=group:{tag}&completed_before={done}")
        assert self.listed(client, f"tag=group:{tag}&completed_after=2000-01-01T00:00:00%2B02:00") == ids[::-1]

    def test_children_are_found_by_their_parent(self, client, start, ended):
        child = f"c-{uuid4()}"
        id = start(["child", child, []])
        ended(id)
        assert self.listed(client, f"parent_id={id}") == [child]

    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=10.0",
            "limit=1_0",
            f"limit={'9' * 5000}",
            "limit=10&limit=10",
            "status=running",
            "status=",
            "order=up",
            "tag=x",
            "tag=a%20b:c",
            "tag=a:%00",
            "created_after=yesterday",
            "created_after=2026-02-30T00:00:00Z",
            "created_after=2026-01-01",
            "created_after=2026-01-01T00:00:00",
            "created_after=2026-01-01T00:00:00+00:00",
            "id_prefix=%00",
            "parent_id=a%00",
            "parent_id=..",
            "name=a/b",
            "unknown=1",
            "Limit=1",
            "%ff=1",
            "limit=%zz",
            "limit",
            "&",
        ],
    )
    def test_a_bad_query_is_refused(self, raw, query):
        response = raw(f"/workflows?{query}".encode())
        assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
        assert "parameter" in response.json()["errors"][0]
