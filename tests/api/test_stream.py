"""The log as server-sent events."""

import json
from collections.abc import Iterator

import pytest


def frames(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Each frame as a mapping of its fields; comments under the empty name."""
    frame: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            frame[name] = value.removeprefix(" ")
        elif frame:
            yield frame
            frame = {}


@pytest.fixture
def stream(client):
    def stream(id: str, query: str = "", **headers: str):
        with client.stream("GET", f"/workflows/{id}/stream{query}", headers=headers, timeout=20) as response:
            assert response.status_code == 200, response.read()
            return list(frames(response.iter_lines()))

    return stream


def test_an_ended_workflow_is_streamed_from_its_first_event_to_its_end(client, start, ended, stream):
    id = start(["set", "a", 1], ["set", "b", {"x": [None]}], ["return", 7])
    workflow = ended(id)
    retry, first, second, end = stream(id)
    assert retry == {"retry": "2000"}
    assert (first["id"], first["event"], json.loads(first["data"])["value"]) == ("1", "a", 1)
    assert json.loads(second["data"]) == client.get(f"/workflows/{id}/events/b").json()
    assert (end["id"], end["event"], json.loads(end["data"])) == ("2.end", "$end", workflow)


def test_a_running_workflow_is_streamed_as_it_goes_on(client, start, send):
    id = start(["set", "a", 1], ["receive", "go"], ["set", "a", 2], ["return", 1])
    with client.stream("GET", f"/workflows/{id}/stream", timeout=20) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Workflow-Status"] in ("RUNNING", "WAITING", "QUEUED")
        assert "Content-Length" not in response.headers
        following = frames(response.iter_lines())
        assert next(following) == {"retry": "2000"}
        assert next(following)["id"] == "1"
        send(id)
        assert next(following)["id"] == "2"
        assert next(following)["id"] == "2.end"
        assert list(following) == []


def test_a_stream_goes_on_where_it_broke_off(start, ended, stream):
    id = start(*(["set", "a", n] for n in range(5)))
    ended(id)
    assert [frame["id"] for frame in stream(id, "?after=1")[1:]] == ["2", "3", "4", "5", "5.end"]
    assert [frame["id"] for frame in stream(id, "?after=1", **{"Last-Event-ID": "3"})[1:]] == ["4", "5", "5.end"]


def test_a_stream_may_be_of_some_keys_and_without_names(start, ended, stream):
    id = start(["set", "a", 1], ["set", "b", 2], ["set", "a", 3])
    ended(id)
    _, *events, end = stream(id, "?key=a&names=false")
    assert [(frame["id"], "event" in frame) for frame in events] == [("1", False), ("3", False)]
    assert (end["id"], end["event"]) == ("3.end", "$end")


def test_more_events_than_one_batch_are_all_sent(start, ended, stream):
    id = start(*(["set", "a", n] for n in range(250)))
    ended(id)
    assert [frame["id"] for frame in stream(id)[1:-1]] == [str(n) for n in range(1, 251)]


def test_a_reconnect_after_the_end_is_told_to_stop(client, start, ended):
    id = start(["set", "a", 1])
    ended(id)
    response = client.get(f"/workflows/{id}/stream", headers={"Last-Event-ID": "1.end"})
    assert (response.status_code, response.headers["Workflow-Status"]) == (204, "SUCCEEDED")


def test_a_reconnect_after_an_end_that_was_undone_goes_on(client, start, send, ended):
    id = start(["set", "a", 1], ["receive", "go"], ["set", "a", 2])
    assert client.get(f"/workflows/{id}/events/a").status_code == 200
    assert client.post(f"/workflows/{id}/cancel").status_code == 200
    ending = {"Last-Event-ID": "1.end"}
    assert client.get(f"/workflows/{id}/stream", headers=ending).status_code == 204
    assert client.post(f"/workflows/{id}/resume").status_code == 200
    with client.stream("GET", f"/workflows/{id}/stream", headers=ending, timeout=20) as response:
        send(id)
        assert [frame.get("id") for frame in frames(response.iter_lines())] == [None, "2", "2.end"]
    ended(id)


@pytest.mark.parametrize("last", ["x", "-1", "1.en", "01", "1.end.end", "9" * 20, "1 x"])
def test_a_malformed_last_event_id_is_refused(client, start, last):
    id = start(["receive", "go"])
    response = client.get(f"/workflows/{id}/stream", headers={"Last-Event-ID": last})
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (422, "Last-Event-ID")


def test_errors_are_problems_before_the_stream_begins(client):
    assert client.get("/workflows/nowhere/stream").json()["code"] == "workflow-not-found"
    assert client.get("/workflows/nowhere/stream?names=yes").status_code == 422


def test_a_head_of_a_stream_ends(client, start):
    id = start(["receive", "go"])
    response = client.head(f"/workflows/{id}/stream")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Type"].startswith("text/event-stream")


def test_a_stream_ends_when_its_workflow_is_cancelled(client, start):
    id = start(["set", "a", 1], ["receive", "go"])
    with client.stream("GET", f"/workflows/{id}/stream", timeout=20) as response:
        following = frames(response.iter_lines())
        assert next(following) == {"retry": "2000"}
        assert client.post(f"/workflows/{id}/cancel").status_code == 200
        assert [frame["id"] for frame in following][-1] == "1.end"
