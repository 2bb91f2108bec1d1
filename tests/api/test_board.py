"""The board, several keys at once, and the log."""

import time

import pytest


@pytest.fixture
def shop(start, at_position):
    """A workflow with events on the board: b=1, a=1, b=2."""
    id = start(["set", "b", 1], ["set", "a", 1], ["set", "b", 2], ["receive", "go"], ["set", "c", 3])
    at_position(id, 3)
    return id


def keys(response):
    return [(event["key"], event["value"], event["position"], event["state"]) for event in response.json()["events"]]


def test_the_board_shows_the_current_value_of_every_key(client, shop):
    response = client.get(f"/workflows/{shop}/events")
    assert response.status_code == 200
    assert keys(response) == [("a", 1, 2, "set"), ("b", 2, 3, "set")]
    assert (response.json()["position"], response.json()["next_cursor"]) == (3, None)
    assert response.json()["workflow_status"] == response.headers["Workflow-Status"]


def test_the_board_of_a_workflow_without_events_is_empty(client, start):
    id = start(["receive", "go"])
    response = client.get(f"/workflows/{id}/events?mode=all&timeout=60&after=0")
    assert (keys(response), response.json()["position"]) == ([], 0)


def test_the_board_comes_in_pages(client, shop):
    first = client.get(f"/workflows/{shop}/events?limit=1")
    assert [key for key, *_ in keys(first)] == ["a"]
    link = first.links["next"]
    assert link["url"].startswith(f"/workflows/{shop}/events?limit=1&cursor=")
    second = client.get(link["url"])
    assert [key for key, *_ in keys(second)] == ["b"]
    assert second.json()["next_cursor"] is None
    assert "Link" not in second.headers


def test_named_keys_that_are_all_set_are_answered_at_once(client, shop):
    response = client.get(f"/workflows/{shop}/events", params={"key": ["b", "a", "b"]})
    assert response.status_code == 200
    assert keys(response) == [("b", 2, 3, "set"), ("a", 1, 2, "set")]


def test_all_named_keys_are_waited_for(client, shop, send, meanwhile):
    pending = client.get(f"/workflows/{shop}/events?key=a&key=c&timeout=0.1")
    assert (pending.status_code, pending.headers["Retry-After"]) == (202, "1")
    assert keys(pending) == [("a", 1, 2, "set"), ("c", None, 0, "pending")]
    waiting = meanwhile(client.get, f"/workflows/{shop}/events?key=a&key=c&timeout=30")
    send(shop)
    assert (waiting.result(20).status_code, [state for *_, state in keys(waiting.result())]) == (200, ["set", "set"])


def test_any_is_answered_at_the_first(client, shop):
    response = client.get(f"/workflows/{shop}/events?key=nothing&key=a&mode=any&timeout=30")
    assert (response.status_code, keys(response)) == (200, [("nothing", None, 0, "pending"), ("a", 1, 2, "set")])
    assert client.get(f"/workflows/{shop}/events?key=nothing&key=c&mode=any&timeout=0").status_code == 202


def test_after_holds_for_named_keys(client, shop):
    response = client.get(f"/workflows/{shop}/events?key=a&key=b&after=2&timeout=0")
    assert (response.status_code, keys(response)) == (202, [("a", 1, 2, "pending"), ("b", 2, 3, "set")])


def test_one_key_that_cannot_come_decides_over_all(client, shop, send, ended):
    send(shop)
    ended(shop)
    response = client.get(f"/workflows/{shop}/events?key=a&key=nothing")
    assert response.status_code == 410
    problem = response.json()
    assert (problem["code"], problem["workflow_status"]) == ("event-never-set", "SUCCEEDED")
    assert [(event["key"], event["state"]) for event in problem["events"]] == [("a", "set"), ("nothing", "never")]
    assert client.get(f"/workflows/{shop}/events?key=a&key=nothing&mode=any").status_code == 200
    assert client.get(f"/workflows/{shop}/events?key=x&key=nothing&mode=any").status_code == 410


def test_at_most_a_hundred_keys_are_named(client):
    assert client.get("/workflows/nowhere/events", params={"key": ["k"] * 100}).status_code == 404
    response = client.get("/workflows/nowhere/events", params={"key": ["k"] * 101})
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (422, "key")
    assert client.get("/workflows/nowhere/events?key=a%2Fb").status_code == 422


def test_the_history_shows_every_set_in_order(client, shop):
    response = client.get(f"/workflows/{shop}/history")
    assert keys(response) == [("b", 1, 1, "set"), ("a", 1, 2, "set"), ("b", 2, 3, "set")]
    assert response.json()["position"] == 3
    assert keys(client.get(f"/workflows/{shop}/history?after=1&key=b")) == [("b", 2, 3, "set")]
    assert keys(client.get(f"/workflows/{shop}/history?after=3")) == []


def test_the_position_of_the_history_is_where_to_go_on(client, shop):
    cut = client.get(f"/workflows/{shop}/history?limit=2").json()
    assert (cut["position"], cut["next_cursor"] is None) == (2, False)
    filtered = client.get(f"/workflows/{shop}/history?key=a").json()
    assert filtered["position"] == 3


def test_the_history_comes_in_pages_by_cursor(client, shop):
    first = client.get(f"/workflows/{shop}/history?key=b&limit=1")
    assert keys(first) == [("b", 1, 1, "set")]
    second = client.get(first.links["next"]["url"])
    assert keys(second) == [("b", 2, 3, "set")]


def test_the_history_waits_while_there_is_nothing(client, shop, send, meanwhile, ended):
    began = time.monotonic()
    assert keys(client.get(f"/workflows/{shop}/history?after=3&timeout=0.2")) == []
    assert time.monotonic() - began >= 0.2
    waiting = meanwhile(client.get, f"/workflows/{shop}/history?after=3&timeout=30")
    send(shop)
    assert keys(waiting.result(20)) == [("c", 3, 4, "set")]
    ended(shop)
    done = client.get(f"/workflows/{shop}/history?after=4&timeout=30")
    assert (keys(done), done.json()["workflow_status"]) == ([], "SUCCEEDED")


def test_the_history_of_an_unknown_workflow_is_not_found(client):
    assert client.get("/workflows/nowhere/history?timeout=5").status_code == 404
    assert client.get("/workflows/nowhere/events").status_code == 404
