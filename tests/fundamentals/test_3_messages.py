"""Whoever knows a workflow's id can send it messages, which it receives in order, each once."""

import httpx


def test_messages_are_received_in_the_order_in_which_they_were_sent(start, send, result):
    id = start("collect", ["item"] * 5)
    for number in range(5):
        assert send(id, "item", number).status_code == 201
    assert result(id)["output"] == [0, 1, 2, 3, 4]


def test_each_topic_is_a_queue_of_its_own(start, send, result):
    id = start("collect", ["size", "colour", "size"])
    for topic, payload in (("colour", "red"), ("size", "S"), ("size", "M")):
        send(id, topic, payload)
    assert result(id)["output"] == ["S", "red", "M"]


def test_a_message_may_come_before_it_is_asked_for(client: httpx.Client, start, send, result):
    """Here even before the workflow has begun: it was told to wait for an hour, and then not to."""
    id = start("collect", ["item"], delay=3600)
    assert send(id, "item", "early").status_code == 201
    assert client.get(f"/workflows/{id}").json()["status"] == "QUEUED"
    client.post(f"/workflows/{id}/resume")
    assert result(id)["output"] == ["early"]


def test_a_message_that_is_sent_twice_with_one_key_is_one_message(client: httpx.Client, start, send, result):
    id = start("collect", ["item", "item"])
    first, again = send(id, "item", "one", key="1"), send(id, "item", "one", key="1")
    other = send(id, "item", "uno", key="1")
    send(id, "item", "two", key="2")

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-conflict")
    assert result(id)["output"] == ["one", "two"]
    assert send(id, "item", "one", key="1").status_code == 200, "also after the end"


def test_a_workflow_that_has_ended_takes_no_messages(start, send, result):
    id = start("greet", "Ada")
    result(id)
    refused = send(id, "item", 1)
    assert (refused.status_code, refused.json()["code"]) == (409, "workflow-finished")


def test_one_request_sends_a_message_and_waits_for_what_comes_of_it(start, send):
    id = start("diary")
    send(id, "entry", {"key": "mood", "value": "fine"}, wait_for="mood")
    turn = send(id, "entry", {"key": "mood", "value": "wet"}, wait_for="mood")
    assert turn.json()["events"]["mood"]["value"] == "wet", "and not what was there before"


def test_a_callback_completes_once(client: httpx.Client, start, send, result):
    id = start("invoice")
    url = client.get(f"/workflows/{id}/events/callback_url?timeout=25").json()["value"]

    assert client.get(url).status_code == 405, "looking is not answering"
    assert client.post(url, json={"paid": True}).status_code == 204
    assert client.post(url, json={"paid": True}).status_code == 204, "the same again is no other answer"
    changed = client.post(url, json={"paid": False})
    assert (changed.status_code, changed.json()["code"]) == (409, "callback-used")

    send(id, "filed", None)
    assert result(id)["output"] == {"paid": True}
    topics = [message["topic"] for message in client.get(f"/workflows/{id}/messages").json()["messages"]]
    assert topics == ["answer", "filed"]


def test_a_callback_is_not_guessed(client: httpx.Client, start):
    url = client.get(f"/workflows/{start('invoice')}/events/callback_url?timeout=25").json()["value"]
    guessed = client.post(url[:-1] + ("A" if url[-1] != "A" else "B"), json={"paid": True})
    assert (guessed.status_code, guessed.json()["code"]) == (404, "callback-not-found")
