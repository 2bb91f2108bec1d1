"""Text that looks dangerous and is good: it is kept as it is, everywhere, and taken for nothing but itself."""

import random
from uuid import uuid4

import httpx
import pytest

_random = random.Random(11)
STRANGE = {
    "SQL": "'; drop table workflows; --",
    "a placeholder": "%s %(id)s $1 :id {id}",
    "markup": "<img src=x onerror=alert(1)><",
    "a template": "{{7*7}}${jndi:ldap:x}",
    "a formula": "=cmd|'calc'!A1",
    "percent": "%2F%00%ff",
    "a plus and a space": "a+b c&d=e;f",
    "quotes": "\"'`",
    "an emoji": "\N{GRINNING FACE}",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "the other direction": "\u202etxt.exe",
    "no width": "\u200b\ufeff",
    "no characters": "\ufffe\uffff",
    "the last of Unicode": "\U0010ffff" * 200,
    "what does not compress": "".join(chr(_random.randrange(0x10000, 0x10FFFF)) for _ in range(200)),
    "a like pattern": "_%",
    "the service's own": "$end",
    "a hash": "a#b?c",
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_strange_text_comes_back_as_it_is(client: httpx.Client, text: str):
    key = text.replace("/", "|")
    id = f"strange-{uuid4()}"
    script = [["receive", key], ["return", text]] if key.startswith("$") else [["set", key, text], ["receive", key]]
    body = {"name": "scripted", "input": script, "id": id, "tags": {"of": text}}
    assert client.post("/workflows", json=body).json()["tags"] == {"of": text}
    sent = client.post(f"/workflows/{id}/messages", json={"topic": key, "payload": {text: text}}).json()
    assert (sent["topic"], sent["payload"]) == (key, {text: text})
    ended = client.get(f"/workflows/{id}/result", params={"timeout": 20}).json()
    assert ended["status"] == "SUCCEEDED"
    assert ended["output"] == (text if key.startswith("$") else {text: text})
    if not key.startswith("$"):
        event = client.get(f"/workflows/{id}/events/{encoded(key)}").json()
        assert (event["key"], event["value"]) == (key, text)
        board = client.get(f"/workflows/{id}/events", params={"key": key}).json()
        assert [event["key"] for event in board["events"]] == [key]
    found = client.get("/workflows", params={"tag": f"of:{text}"}).json()["workflows"]
    assert [workflow["id"] for workflow in found] == [id]
    messages = client.get(f"/workflows/{id}/messages", params={"topic": key}).json()["messages"]
    assert [message["payload"] for message in messages] == [{text: text}]


def test_what_looks_alike_is_not_the_same(client: httpx.Client):
    id = f"alike-{uuid4()}"
    alike = ["caf\u00e9", "cafe\u0301", "Caf\u00e9", "caf\u00e9 ", "caf%C3%A9", "caf\ufffd"]
    script = [["set", key, number] for number, key in enumerate(alike)]
    body = {"name": "scripted", "input": script, "id": id}
    assert client.post("/workflows?wait_for_result=true&timeout=20", json=body).json()["status"] == "SUCCEEDED"
    values = [client.get(f"/workflows/{id}/events/{encoded(key)}").json()["value"] for key in alike]
    assert values == list(range(len(alike)))


def test_a_pattern_of_ids_is_taken_to_the_letter(client: httpx.Client):
    for id in ("like_a", "likexa"):
        client.post("/workflows", json={"name": "mute", "id": id})
    found = client.get("/workflows", params={"id_prefix": "like_"}).json()["workflows"]
    assert [workflow["id"] for workflow in found] == ["like_a"]


def encoded(key: str) -> str:
    return "".join(f"%{byte:02X}" for byte in key.encode())
