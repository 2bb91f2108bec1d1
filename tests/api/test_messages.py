"""Messages and callbacks."""

import re
from uuid import uuid4

import httpx
import pytest

JSON = {"Content-Type": "application/json"}


def post(client, id, payload=None, *, topic="go", query="", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/workflows/{id}/messages{query}", json={"topic": topic, "payload": payload}, headers=headers)


class TestSending:
    def test_a_message_is_created_and_received_once(self, client, start, ended):
        id = start(["receive", "go"])
        response = post(client, id, {"b": 1, "a": [None]})
        assert response.status_code == 201
        message = response.json()
        assert (message["workflow_id"], message["topic"], message["payload"]) == (id, "go", {"b": 1, "a": [None]})
        assert (message["position"], message["event_position"], message["received_at"]) == (1, 0, None)
        assert ended(id)["output"] == {"b": 1, "a": [None]}
        listed = client.get(f"/workflows/{id}/messages").json()["messages"]
        assert [one["id"] for one in listed] == [message["id"]]
        assert listed[0]["received_at"] > listed[0]["sent_at"]

    def test_topics_are_apart_and_each_is_first_in_first_out(self, client, start, ended):
        id = start(["receive", "b"], ["receive", "a"], ["receive", "a"])
        for topic, payload in (("a", 1), ("a", 2), ("b", 3)):
            post(client, id, payload, topic=topic)
        assert ended(id)["output"] == 2

    def test_it_may_come_before_the_workflow_runs(self, client, start, ended):
        id = start(["receive", "go"], delay=600)
        assert post(client, id, "early").status_code == 201
        client.post(f"/workflows/{id}/resume")
        assert ended(id)["output"] == "early"

    def test_an_idempotency_key_makes_one_message(self, client, start, ended):
        id = start(["receive", "go"])
        key = str(uuid4())
        first = post(client, id, {"a": 1, "b": 2}, Idempotency_Key=key)
        ended(id)
        again = post(client, id, {"b": 2.0, "a": 1}, Idempotency_Key=key)
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json()["id"] == first.json()["id"]
        for other in ({"payload": 1}, {"payload": {"a": 1, "b": 2}, "topic": "other"}):
            conflict = post(client, id, **other, Idempotency_Key=key)
            assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency-conflict")
            assert conflict.headers["Workflow-Status"] == "SUCCEEDED"

    def test_an_ended_workflow_takes_none(self, client, start, ended):
        id = start(["return", 1])
        ended(id)
        response = post(client, id)
        assert (response.status_code, response.json()["code"]) == (409, "workflow-finished")
        assert response.headers["Workflow-Status"] == "SUCCEEDED"
        assert post(client, "nowhere").json()["code"] == "workflow-not-found"

    def test_a_conversation_is_one_request_for_each_turn(self, client, start):
        turns = [line for n in range(3) for line in (["receive", "form"], ["set", "question", n])]
        id = start(["set", "question", "first"], *turns, ["receive", "form"])
        assert client.get(f"/workflows/{id}/events/question").json()["value"] == "first"
        for n in range(3):
            response = post(client, id, n, topic="form", query="?wait_for=question&timeout=20")
            assert response.status_code == 201
            event = response.json()["events"]["question"]
            assert (event["state"], event["value"]) == ("set", n)
            assert event["position"] > response.json()["event_position"]

    def test_a_repeat_waits_for_the_same_turn(self, client, start, at_position):
        id = start(["set", "q", 0], ["receive", "go"], ["set", "q", 1], ["receive", "go"])
        at_position(id, 1)
        key = str(uuid4())
        for status in (201, 200):
            response = post(client, id, 1, query="?wait_for=q&timeout=20", Idempotency_Key=key)
            assert (response.status_code, response.json()["events"]["q"]["value"]) == (status, 1)

    def test_a_wait_that_is_over_leaves_the_message_sent(self, client, start):
        id = start(["receive", "go"], ["receive", "more"])
        response = post(client, id, query="?wait_for=q&timeout=0.1")
        assert (response.status_code, response.json()["events"]["q"]["state"]) == (201, "pending")

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"payload": 1}, "/topic"),
            ({"topic": "a"}, "/payload"),
            ({"topic": "", "payload": 1}, "/topic"),
            ({"topic": "a/b", "payload": 1}, "/topic"),
            ({"topic": "..", "payload": 1}, "/topic"),
            ({"topic": "t" * 201, "payload": 1}, "/topic"),
            ({"topic": 5, "payload": 1}, "/topic"),
            ({"topic": "a", "payload": 1, "position": 1}, "/position"),
        ],
    )
    def test_a_bad_message_is_refused(self, client, start, body, pointer):
        response = client.post("/workflows/nowhere/messages", json=body)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)


class TestListing:
    def test_messages_are_listed_in_order_by_topic_and_in_pages(self, client, start):
        id = start(["receive", "never"])
        for n in range(4):
            post(client, id, n, topic="ab"[n % 2])
        first = client.get(f"/workflows/{id}/messages?limit=3")
        assert [one["payload"] for one in first.json()["messages"]] == [0, 1, 2]
        second = client.get(first.links["next"]["url"])
        assert [one["payload"] for one in second.json()["messages"]] == [3]
        assert second.json()["next_cursor"] is None
        topical = client.get(f"/workflows/{id}/messages?topic=b").json()["messages"]
        assert [one["payload"] for one in topical] == [1, 3]


class TestCallbacks:
    @pytest.fixture
    def callback(self, client, start):
        """The path of a callback, and the id of the workflow that waits for it."""
        id = start(["callback", "payment", "url"], ["receive", "payment"])
        url = client.get(f"/workflows/{id}/events/url").json()["value"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callbacks/[\w-]{20,}", url)
        return httpx.URL(url).path, id

    def test_a_callback_is_a_message(self, client, callback, ended):
        path, id = callback
        response = client.post(f"{path}?utm=1&utm=2", json={"status": "paid"})
        assert (response.status_code, response.content) == (204, b"")
        assert ended(id)["output"] == {"status": "paid"}

    def test_it_is_completed_once(self, client, callback, ended):
        path, id = callback
        assert client.post(path, json={"a": 1, "b": 2}).status_code == 204
        assert client.post(path, json={"b": 2, "a": 1.0}).status_code == 204
        used = client.post(path, json={"a": 2})
        assert (used.status_code, used.json()["code"]) == (409, "callback-used")
        ended(id)
        assert client.post(path, json={"a": 1, "b": 2}).status_code == 204
        assert len(client.get(f"/workflows/{id}/messages").json()["messages"]) == 1

    def test_null_is_a_payload_and_nothing_is_none(self, client, callback, ended):
        path, id = callback
        empty = client.post(path, content=b"", headers=JSON)
        assert (empty.status_code, empty.json()["code"]) == (400, "malformed-json")
        assert client.post(path, content=b"null", headers=JSON).status_code == 204
        assert ended(id)["output"] is None

    def test_a_read_never_completes_it(self, client, callback):
        path, id = callback
        response = client.get(path)
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")
        assert client.head(path).status_code == 405
        assert client.get(f"/workflows/{id}/messages").json()["messages"] == []

    def test_an_ended_workflow_takes_no_callback(self, client, callback):
        path, id = callback
        client.post(f"/workflows/{id}/cancel")
        response = client.post(path, json=1)
        assert (response.status_code, response.json()["code"]) == (409, "workflow-finished")

    def test_an_unknown_token_is_not_found(self, client):
        response = client.post("/callbacks/nothing", json=1)
        assert (response.status_code, response.json()["code"]) == (404, "callback-not-found")

    def test_it_may_come_from_a_page_of_anywhere(self, client, callback):
        path, _ = callback
        assert client.post(path, json=1, headers={"Origin": "https://provider.example"}).status_code == 204

    def test_no_record_shows_the_token(self, client, callback):
        path, id = callback
        token = path.rpartition("/")[2]
        for listing in (f"/workflows/{id}/steps", f"/workflows/{id}", "/workflows?include=input,output,error"):
            assert token not in client.get(listing).text
