"""While it runs, a workflow publishes values under keys, and whoever asks for one waits until it is there."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from select import select

import httpx

from tests.fundamentals.conftest import SEATS
from tests.support.waiting import eventually_sync


def test_an_event_is_waited_for_in_the_request_that_starts_the_workflow(client: httpx.Client):
    started = client.post("/workflows?wait_for=payment_url&timeout=25", json={"name": "order", "input": "A1"})
    assert started.status_code == 201
    assert started.json()["events"]["payment_url"]["value"] == "https://pay.example/A1"


def test_a_read_waits_until_the_event_is_set(client: httpx.Client, start, send, meanwhile):
    id = start("order", "A1")
    poll = meanwhile(client.get, f"/workflows/{id}/events/status?timeout=25")
    send(id, "payment", "paid")
    assert (poll.result().status_code, poll.result().json()["value"]) == (200, "paid")


def test_a_read_has_five_answers(client: httpx.Client, start, send, result):
    id = start("order", "A1")

    there = client.get(f"/workflows/{id}/events/payment_url?timeout=25")
    assert (there.status_code, there.json()["state"]) == (200, "set")

    not_yet = client.get(f"/workflows/{id}/events/status?timeout=0.1")
    assert (not_yet.status_code, not_yet.json()["state"]) == (202, "pending")
    assert not_yet.headers["Retry-After"] == "1"

    tag = {"If-None-Match": there.headers["ETag"]}
    assert client.get(f"/workflows/{id}/events/payment_url?timeout=0.1", headers=tag).status_code == 304

    send(id, "payment", "paid")
    result(id)
    never = client.get(f"/workflows/{id}/events/refund?timeout=25")
    assert (never.status_code, never.json()["code"]) == (410, "event-never-set")
    assert never.headers["Workflow-Status"] == "SUCCEEDED"

    unknown = client.get("/workflows/unknown/events/payment_url?timeout=25")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "workflow-not-found")


def test_whoever_waits_for_what_can_not_come_any_more_is_told_at_once(client: httpx.Client, start, send, meanwhile):
    id = start("diary")
    poll = meanwhile(client.get, f"/workflows/{id}/events/secret?timeout=600", timeout=30)
    send(id, "entry", None)
    assert poll.result().status_code == 410


def test_the_last_write_wins(client: httpx.Client, start, write):
    id = start("diary")
    for mood in ("fine", "tired", "fine again"):
        write(id, "mood", mood)
    assert client.get(f"/workflows/{id}/events/mood").json()["value"] == "fine again"


def test_whoever_knows_a_position_can_ask_for_what_comes_after_it(client: httpx.Client, start, write, meanwhile):
    id = start("diary")
    write(id, "mood", "fine")
    position = client.get(f"/workflows/{id}/events/mood").json()["position"]
    newer = meanwhile(client.get, f"/workflows/{id}/events/mood?after={position}&timeout=25")
    write(id, "weather", "rain")
    write(id, "mood", "wet")
    assert (newer.result().json()["value"], newer.result().json()["position"]) == ("wet", 3)


def test_a_null_is_a_value(client: httpx.Client, start, write):
    id = start("diary")
    write(id, "mood", None)
    read = client.get(f"/workflows/{id}/events/mood")
    assert (read.status_code, read.json()["state"], read.json()["value"]) == (200, "set", None)


def test_what_was_published_can_be_read_after_the_end(client: httpx.Client, start, write, send, result):
    id = start("diary")
    write(id, "mood", "fine")
    send(id, "entry", None)
    assert result(id)["status"] == "SUCCEEDED"
    assert client.get(f"/workflows/{id}/events/mood").json()["value"] == "fine"


class Hall:
    """The room for waiting requests, and how to see that it is all taken: one more is refused."""

    def __init__(self, client: httpx.Client, id: str) -> None:
        self._client, self._id = client, id

    def poll(self, after: int) -> httpx.Response:
        """Wait for the diary's next mood, and for a seat if there is none: `full` takes one for a moment."""
        while (answer := self._read(after, 25)).status_code == 503:
            assert answer.json()["code"] == "overloaded"
        return answer

    def full(self) -> bool:
        return self._read(99, 0.01).status_code == 503

    def _read(self, after: int, timeout: float) -> httpx.Response:
        return self._client.get(f"/workflows/{self._id}/events/mood", params={"after": after, "timeout": timeout})


def test_many_may_wait_for_one_key_and_none_is_left_over(client: httpx.Client, start, send, meanwhile):
    """All seats are taken, and free again afterwards: else they could not be taken a second time."""
    id = start("diary")
    hall = Hall(client, id)
    for turn in range(2):
        polls = [meanwhile(hall.poll, turn) for _ in range(SEATS)]
        eventually_sync(hall.full, message="there was still room for one more")
        send(id, "entry", {"key": "mood", "value": turn})
        assert [poll.result().json()["value"] for poll in polls] == [turn] * SEATS
    assert not hall.full()


def test_a_client_that_goes_away_waits_no_longer(client: httpx.Client, start, milepost):
    id = start("diary")
    hall, address = Hall(client, id), httpx.URL(milepost.url)
    request = f"GET /workflows/{id}/events/mood?timeout=600 HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode()
    with ExitStack() as gone:
        visitors = [gone.enter_context(socket.create_connection((address.host, address.port))) for _ in range(SEATS)]
        for visitor in visitors:
            visitor.sendall(request)

        def all_wait() -> bool:
            for refused in select(visitors, [], [], 0)[0]:
                refused.recv(65_536)
                refused.sendall(request)
            return hall.full()

        eventually_sync(all_wait, message="there was still room for one more")
    eventually_sync(lambda: not hall.full(), message="those who went away still have their seats")


def test_colons_in_ids_and_keys_do_not_mix_workflows_up(client: httpx.Client, start, write, meanwhile):
    start("diary", id="a")
    start("diary", id="a::b")
    polls = [meanwhile(client.get, f"/workflows/{path}?timeout=25") for path in ("a/events/b::c", "a::b/events/c")]
    write("a", "b::c", "of a")
    write("a::b", "c", "of a::b")
    assert [poll.result().json()["value"] for poll in polls] == ["of a", "of a::b"]
    assert client.get("/workflows/a/events/c?timeout=0").status_code == 202
    assert client.get("/workflows/a::b/events/b::c?timeout=0").status_code == 202


def test_the_board_shows_the_newest_value_of_every_key(client: httpx.Client, start, write):
    id = start("diary")
    for key, value in (("mood", "fine"), ("weather", "rain"), ("mood", "wet")):
        write(id, key, value)
    board = client.get(f"/workflows/{id}/events").json()
    assert {event["key"]: event["value"] for event in board["events"]} == {"mood": "wet", "weather": "rain"}
    assert board["position"] == 3


def test_the_history_loses_nothing(client: httpx.Client, start, result):
    id = start("count", 2500)
    seen, after = [], 0
    while True:
        page = client.get(f"/workflows/{id}/history", params={"after": after, "timeout": 25}).json()
        seen += [(event["position"], event["value"]) for event in page["events"]]
        after = page["position"]
        if not page["events"] and page["workflow_status"] == "SUCCEEDED":
            break
    assert seen == [(number, number) for number in range(1, 2501)]


def test_the_stream_loses_nothing_though_its_reader_comes_back_again_and_again(client: httpx.Client, start):
    id = start("count", 500)
    seen: list[int] = []
    last, ended = "0", False
    while not ended:
        with client.stream("GET", f"/workflows/{id}/stream", headers={"Last-Event-ID": last}) as stream:
            for name, event_id, data in server_sent(stream):
                last, ended = event_id, name == "$end"
                if ended:
                    assert json.loads(data)["output"] == 500
                    break
                seen.append(json.loads(data)["value"])
                if len(seen) % 70 == 0:
                    break  # the line is cut
    assert seen == list(range(1, 501))


def server_sent(stream: httpx.Response) -> Iterator[tuple[str | None, str, str]]:
    """The events of a stream: name, id and data."""
    fields: dict[str, str] = {}
    for line in stream.iter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield fields.get("event"), fields["id"], fields["data"]
            fields = {}
