"""Reading one event: every row of the table, and conditional requests."""

import re
import time

import pytest


def test_a_set_event_is_answered_at_once(client, start, ended):
    id = start(["set", "url", "https://pay"], ["receive", "go"])
    began = time.monotonic()
    response = client.get(f"/workflows/{id}/events/url")
    assert time.monotonic() - began < 5
    assert response.status_code == 200
    event = response.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.pop("set_at"))
    assert event.pop("workflow_status") in ("RUNNING", "WAITING")
    assert event == {"workflow_id": id, "key": "url", "state": "set", "value": "https://pay", "position": 1}
    assert response.headers["Workflow-Status"] in ("RUNNING", "WAITING")
    assert re.fullmatch(r'W/"[0-9a-f]{8}\.1"', response.headers["ETag"])
    assert response.headers["Cache-Control"] == "private, no-cache"


def test_a_set_null_is_not_an_unset_key(client, start):
    id = start(["set", "nothing", None], ["receive", "go"])
    response = client.get(f"/workflows/{id}/events/nothing")
    assert (response.status_code, response.json()["state"], response.json()["value"]) == (200, "set", None)
    assert response.json()["position"] == 1


def test_a_waiting_read_is_answered_when_the_event_is_committed(client, start, send, meanwhile):
    id = start(["receive", "go"], ["set", "url", 1], ["receive", "go"])
    assert client.get(f"/workflows/{id}/events/url?timeout=0").status_code == 202
    waiting = meanwhile(client.get, f"/workflows/{id}/events/url?timeout=30")
    send(id)
    assert (waiting.result(20).status_code, waiting.result().json()["value"]) == (200, 1)


def test_the_time_is_up_and_it_was_never_set(client, start):
    id = start(["receive", "go"])
    began = time.monotonic()
    response = client.get(f"/workflows/{id}/events/url?timeout=0.3")
    assert 0.3 <= time.monotonic() - began < 3
    assert (response.status_code, response.headers["Retry-After"]) == (202, "1")
    event = response.json()
    assert (event["state"], event["value"], event["position"], event["set_at"]) == ("pending", None, 0, None)
    assert "ETag" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"


def test_the_time_is_up_and_it_was_not_set_again(client, start):
    id = start(["set", "n", 1], ["receive", "go"])
    assert client.get(f"/workflows/{id}/events/n").status_code == 200
    response = client.get(f"/workflows/{id}/events/n?after=1&timeout=0.1")
    assert response.status_code == 202
    event = response.json()
    assert (event["state"], event["value"], event["position"]) == ("pending", 1, 1)
    assert event["set_at"]


def test_after_asks_for_something_newer(client, start, send, meanwhile):
    id = start(["set", "n", 1], ["receive", "go"], ["set", "other", 0], ["set", "n", 2], ["receive", "go"])
    waiting = meanwhile(client.get, f"/workflows/{id}/events/n?after=1&timeout=30")
    send(id)
    event = waiting.result(20).json()
    assert (event["value"], event["position"]) == (2, 3)


def test_an_ended_workflow_never_sets_it_any_more(client, start, ended):
    id = start(["return", 1])
    ended(id)
    began = time.monotonic()
    response = client.get(f"/workflows/{id}/events/url")
    assert time.monotonic() - began < 5
    assert response.status_code == 410
    problem = response.json()
    assert (problem["code"], problem["workflow_status"]) == ("event-never-set", "SUCCEEDED")
    assert "error" not in problem
    assert response.headers["Workflow-Status"] == "SUCCEEDED"


def test_a_failed_workflow_says_why_the_event_never_comes(client, start, ended):
    id = start(["fail", "out of stock"])
    ended(id)
    problem = client.get(f"/workflows/{id}/events/url").json()
    assert problem["workflow_status"] == "FAILED"
    assert problem["error"]["message"] == "out of stock"


def test_an_end_while_waiting_is_told_at_once(client, start, send, meanwhile):
    id = start(["receive", "go"])
    waiting = meanwhile(client.get, f"/workflows/{id}/events/url?timeout=30")
    send(id)
    assert waiting.result(20).status_code == 410


def test_an_ended_workflow_sets_nothing_newer(client, start, ended):
    id = start(["set", "n", 1])
    ended(id)
    assert client.get(f"/workflows/{id}/events/n").status_code == 200
    assert client.get(f"/workflows/{id}/events/n?after=1").status_code == 410


def test_an_unknown_workflow_is_told_at_once(client):
    response = client.get("/workflows/nowhere/events/url")
    assert (response.status_code, response.json()["code"]) == (404, "workflow-not-found")
    assert "Workflow-Status" not in response.headers


def test_a_workflow_that_is_deleted_meanwhile_is_not_found(client, start, ended, meanwhile):
    id = start(["receive", "go"])
    waiting = meanwhile(client.get, f"/workflows/{id}/result?timeout=30")
    reading = meanwhile(client.get, f"/workflows/{id}/events/url?timeout=30&after=5")
    assert client.post(f"/workflows/{id}/cancel").status_code == 200
    assert waiting.result(20).json()["status"] == "CANCELLED"
    assert reading.result(20).status_code == 410
    assert client.delete(f"/workflows/{id}").status_code == 204
    assert client.get(f"/workflows/{id}/events/url").status_code == 404


@pytest.mark.parametrize("timeout", ["-1", "3601", "nan", "inf", "1e3", "5_0", "+5", "%205", "", "05", ".5", "5.", "١"])
def test_a_bad_timeout_is_refused(client, start, timeout):
    response = client.get(f"/workflows/w/events/k?timeout={timeout}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["parameter"] == "timeout"


def test_a_head_looks_and_does_not_wait(client, start):
    id = start(["set", "a", 1], ["receive", "go"])
    assert client.get(f"/workflows/{id}/events/a").status_code == 200
    began = time.monotonic()
    pending = client.head(f"/workflows/{id}/events/url")
    assert time.monotonic() - began < 5
    assert (pending.status_code, pending.content) == (202, b"")
    there = client.head(f"/workflows/{id}/events/a")
    assert (there.status_code, there.content) == (200, b"")
    assert int(there.headers["Content-Length"]) == len(client.get(f"/workflows/{id}/events/a").content)
    assert client.head("/workflows/nowhere/events/a").status_code == 404


class TestConditionalRequests:
    def read(self, client, id, *tags, timeout=0.1, **params):
        headers = [("If-None-Match", tag) for tag in tags]
        return client.get(f"/workflows/{id}/events/n", params={"timeout": timeout, **params}, headers=headers)

    def test_nothing_newer_in_time_is_not_modified(self, client, start):
        id = start(["set", "n", 1], ["receive", "go"])
        tag = client.get(f"/workflows/{id}/events/n").headers["ETag"]
        for tags in ([tag], [tag[2:]], [f'"x", {tag}'], ['"x"', tag]):
            response = self.read(client, id, *tags)
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["ETag"] == tag
            assert response.headers["Cache-Control"] == "private, no-cache"
            assert response.headers["Workflow-Status"] in ("RUNNING", "WAITING")

    def test_something_newer_is_waited_for(self, client, start, send, meanwhile):
        id = start(["set", "n", 1], ["receive", "go"], ["set", "n", 2], ["receive", "go"])
        tag = client.get(f"/workflows/{id}/events/n").headers["ETag"]
        waiting = meanwhile(self.read, client, id, tag, timeout=30)
        send(id)
        assert (waiting.result(20).status_code, waiting.result().json()["value"]) == (200, 2)

    def test_nothing_newer_can_come_is_not_modified(self, client, start, ended):
        id = start(["set", "n", 1])
        ended(id)
        tag = client.get(f"/workflows/{id}/events/n").headers["ETag"]
        assert self.read(client, id, tag, timeout=30).status_code == 304

    def test_with_after_it_is_newer_than_both(self, client, start):
        id = start(["set", "n", 1], ["set", "n", 2], ["set", "n", 3], ["receive", "go"])
        tag = client.get(f"/workflows/{id}/events/n?after=2").headers["ETag"]
        older = tag.replace(".3", ".1")
        assert self.read(client, id, older).status_code == 200
        assert self.read(client, id, older, after=2).status_code == 200
        assert self.read(client, id, older, after=3).status_code == 304
        assert self.read(client, id, tag, after=1).status_code == 304

    @pytest.mark.parametrize("tag", ["*", '"foreign"', 'W/"00000000.9"', "nonsense", '"x'])
    def test_a_foreign_tag_is_no_condition(self, client, start, tag):
        id = start(["set", "n", 1], ["receive", "go"])
        assert client.get(f"/workflows/{id}/events/n").status_code == 200
        assert self.read(client, id, tag).status_code == 200

    def test_a_tag_of_a_former_life_of_the_id_is_no_condition(self, client, start, ended):
        id = start(["set", "n", "old"])
        ended(id)
        tag = client.get(f"/workflows/{id}/events/n").headers["ETag"]
        assert client.delete(f"/workflows/{id}").status_code == 204
        start(["set", "n", "new"], id=id)
        response = self.read(client, id, tag, timeout=10)
        assert (response.status_code, response.json()["value"]) == (200, "new")
        assert response.headers["ETag"] != tag


class TestKeys:
    @pytest.mark.parametrize(
        ("sent", "key"),
        [
            ("caf%C3%A9", "café"),
            ("cafe%CC%81", "cafe\u0301"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("%25ff", "%ff"),
            ("a::b", "a::b"),
            ("%F0%9F%98%80", "\N{GRINNING FACE}"),
            ("%24x", "$x"),
            ("a%3Fb%23", "a?b#"),
        ],
    )
    def test_a_key_is_percent_encoded_utf8(self, raw, start, sent, key):
        id = start(*([] if key.startswith("$") else [["set", key, 1]]), ["receive", "go"])
        response = raw(f"/workflows/{id}/events/{sent}?timeout=2".encode())
        assert response.json()["key"] == key
        assert response.status_code == (202 if key.startswith("$") else 200)

    @pytest.mark.parametrize(
        "sent",
        [
            "%ff",
            "%C0%AF",
            "%ED%A0%80",
            "%ZZ",
            "%2",
            "%",
            "a%2Fb",
            "%5C",
            "..",
            ".",
            "%2e%2E",
            "%00",
            "%0d%0a",
            "%C2%85",
            "k" * 201,
        ],
    )
    def test_a_bad_key_is_refused(self, raw, sent):
        response = raw(f"/workflows/w/events/{sent}".encode())
        assert response.status_code == 422
        assert response.json()["code"] == "invalid-request"
        assert response.json()["errors"][0]["parameter"] == "key"

    def test_the_longest_key_is_counted_in_characters(self, raw, start):
        id = start(["set", "é" * 200, 1], ["receive", "go"])
        assert raw(f"/workflows/{id}/events/{'%C3%A9' * 200}?timeout=5".encode()).status_code == 200

    @pytest.mark.parametrize("sent", ["", "a/b", "k/"])
    def test_an_empty_key_or_more_segments_are_no_route(self, raw, sent):
        response = raw(f"/workflows/w/events/{sent}".encode())
        assert (response.status_code, response.json()["code"]) == (404, "route-not-found")

    @pytest.mark.parametrize("sent", ["a b".replace(" ", "%20"), "%ff", "..", "a%2fb", "x" * 129, "é"])
    def test_a_bad_workflow_id_is_refused(self, raw, sent):
        response = raw(b"/workflows/" + sent.replace("é", "%C3%A9").encode())
        assert response.status_code == 422
        assert response.json()["errors"][0]["parameter"] == "id"
