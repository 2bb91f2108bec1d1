"""What is written down: one line for one thing, and nothing that is the callers' own affair."""

import json

import pytest

from tests.input.raw import CANARY, HOST, Connection
from tests.support.waiting import eventually_sync

ESCAPES = {
    "a line break": b"%0d%0a{%22event%22:%22forged%22}",
    "an escape of terminals": b"%1b[31mred%1b[0m",
    "a separator of lines": b"%E2%80%A8forged",
    "the other direction": b"%E2%80%AEdegrof",
    "a quote": b"%22,%22event%22:%22forged",
    "a bare quote": b'","event":"forged',
    "60 kB": b"p" * 60_000,
}


def lines(log: str) -> list[dict]:
    return [json.loads(line) for line in log.split("\n") if line.startswith("{")]


@pytest.mark.parametrize("what", ESCAPES)
def test_a_request_makes_one_line_however_it_is_written(hardened, connection: Connection, what: str):
    id = f"request-of-{list(ESCAPES).index(what)}-\"}}{{'$(x)"
    headers = HOST + b"\r\nX-Request-Id: " + id.encode()
    connection.send(b"GET /nowhere/" + ESCAPES[what] + b" HTTP/1.1\r\n" + headers + b"\r\n\r\n")
    answer = connection.answer()
    assert (answer.status, answer.header("x-request-id")) == (404, id)

    def logged() -> list[dict]:
        return [line for line in lines(hardened.log) if line.get("request_id") == id]

    (line,) = eventually_sync(logged)
    assert (line["event"], line["status"]) == ("answered", 404)
    assert len(line["path"]) <= 256
    assert not [line for line in hardened.log.splitlines() if not line.isprintable()]
    assert all(line["event"] != "forged" for line in lines(hardened.log))


def test_values_are_in_no_line(hardened, client):
    """Inputs, outputs, events, messages, errors, tags, tokens, keys: what is logged are ids, names and kinds."""
    script = [["callback", "paid", "url"], ["receive", "go"], ["set", "k", CANARY], ["step", CANARY], ["fail", CANARY]]
    body = {"name": "scripted", "input": script, "tags": {"of": CANARY}}
    headers = {"Authorization": f"Bearer {CANARY}", "Cookie": f"session={CANARY}", "Idempotency-Key": f"key-{CANARY}"}
    started = client.post("/workflows?wait_for=url&timeout=20", json=body, headers=headers).json()
    url = started["events"]["url"]["value"]
    token = url.rpartition("/")[2]
    assert client.post(f"/callbacks/{token}", json={"card": CANARY}).status_code == 204
    assert client.post(f"/callbacks/{token}", json={"card": CANARY, "again": 1}).status_code == 409
    message = {"topic": "go", "payload": {"secret": CANARY}}
    assert client.post(f"/workflows/{started['id']}/messages", json=message).status_code == 201
    ended = client.get(f"/workflows/{started['id']}/result", params={"timeout": 20}).json()
    assert (ended["status"], ended["error"]["message"]) == ("FAILED", CANARY)
    assert client.get("/workflows", params={"tag": f"of:{CANARY}"}).json()["workflows"]

    def told() -> bool:
        return any(line.get("workflow_id") == ended["id"] for line in lines(hardened.log))

    eventually_sync(told, message="that the workflow failed is in no line")
    assert token not in hardened.log
    assert CANARY not in hardened.log, [line for line in hardened.log.splitlines() if CANARY in line]
