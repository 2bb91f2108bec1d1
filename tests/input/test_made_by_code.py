"""What a workflow's own code makes is held to the same rules: that workflow fails with the reason, and no other."""

from collections.abc import Iterator

import httpx
import pytest

from tests.input.workflows import MADE, NO_TEXT, WAYS

REASONS = {
    "U+0000": "U+0000 is not accepted",
    "U+0000 in a name": "in the name of a member: U+0000 is not accepted",
    "a lone surrogate": "/0: a surrogate without its partner is not accepted",
    "NaN": "/n: a number must be finite",
    "infinity": "/0: a number must be finite",
    "101 levels": "/0/0: nesting is deeper than 100 levels",
    "endless levels": "Circular reference",
    "an integer of 4,001 digits": "an integer may have 4000 digits",
    "a mebibyte and a byte": "a value may have 1048576 bytes as compact JSON, this one has 1048577",
    "16 MB": "a value may have 1048576 bytes as compact JSON, this one has 16000002",
    "no JSON": "has no JSON form",
}
SPILLS = [(way, what) for way in WAYS for what in MADE]


def id_of(way: str, what: str) -> str:
    return f"spill.{way}.{sorted(MADE).index(what)}"


@pytest.fixture(scope="session")
def spilled(hardened) -> Iterator[httpx.Client]:
    """All of them under way at once, each beside a neighbour that does nothing wrong. None is left running: others
    look whether what is written changes."""
    with hardened.client() as client:
        for way, what in SPILLS:
            id = id_of(way, what)
            neighbour = {"name": "scripted", "input": [["set", "k", 1], ["step", 2]], "id": f"{id}.neighbour"}
            for body in ({"name": "spill", "input": [way, what], "id": id}, neighbour):
                assert client.post("/workflows", json=body).status_code == 201
        for way, what in SPILLS:
            for id in (id_of(way, what), f"{id_of(way, what)}.neighbour"):
                assert client.get(f"/workflows/{id}/result?timeout=20").status_code == 200
        yield client


@pytest.mark.parametrize(("way", "what"), SPILLS)
def test_a_workflow_that_makes_what_is_no_value_fails_with_the_reason(spilled: httpx.Client, way: str, what: str):
    workflow = spilled.get(f"/workflows/{id_of(way, what)}/result?timeout=20").json()
    assert workflow["status"] == "FAILED"
    if way not in ("key", "topic"):
        assert REASONS[what] in workflow["error"]["message"]
    elif what in NO_TEXT:
        assert "not text" in workflow["error"]["message"]
    else:
        assert "is not a good one" in workflow["error"]["message"]
    assert len(workflow["error"]["message"]) < 2_000
    assert spilled.get(f"/workflows/{id_of(way, what)}/history").json()["events"] == []
    neighbour = spilled.get(f"/workflows/{id_of(way, what)}.neighbour/result?timeout=20").json()
    assert (neighbour["status"], neighbour["output"]) == ("SUCCEEDED", 2)


def test_nobody_got_what_was_no_message(spilled: httpx.Client):
    assert spilled.get("/workflows/waiting/messages").json()["messages"] == []
