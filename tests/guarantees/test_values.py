"""What was accepted reads back equal: any JSON, through every door by which a value gets in and out again."""

import json
import math
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.databases import Databases
from tests.support.service import Service

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = st.text(characters, max_size=8)
integers = st.integers() | st.integers(-(2**70), 2**70) | st.integers(10**300, 10**320)
doubles = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | integers | doubles | st.text(characters, max_size=12)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


@pytest.fixture(scope="module")
def client(databases: Databases, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with databases.clone(template) as url:
        given = {"DATABASE_URL": url, "WORKFLOWS": "tests.support.workflows", "EXAMPLES": False}
        with Service(tmp_path_factory.mktemp("values"), given) as service, service.client() as client:
            yield client
            assert "a request broke" not in service.log, service.log


def exactly(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is not true, integers to the last digit, strings by code point, members in their order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(exactly(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(exactly, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return type(one) is type(other) and one == other


def post(client: httpx.Client, path: str, body: Any, *, escaped: bool) -> httpx.Response:
    content = json.dumps(body, ensure_ascii=escaped).encode()
    return client.post(path, content=content, headers={"Content-Type": "application/json"})


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(value=values, escaped=st.booleans())
@example(value=2**53 + 1, escaped=False)
@example(value=-0.0, escaped=False)
@example(value=[1, 1.0, True, 1e22, 5e-324, 1.7976931348623157e308], escaped=False)
@example(value=10**3999, escaped=False)
@example(value={"é": 1, "e\u0301": 2, "": {"": None}, "z": 0, "a": 0}, escaped=True)
@example(value='\U0001f600\u2028\u202e\ufeff\uffff\x7f\x01"\\/', escaped=True)
def test_any_value_comes_back_as_it_was_sent(client: httpx.Client, value: Any, escaped: bool):
    id = f"w-{uuid4()}"
    script = [["set", "k", value], ["step", value], ["receive", "go"], ["return", value]]
    started = post(client, "/workflows?wait_for=k", {"name": "scripted", "id": id, "input": script}, escaped=escaped)
    assert started.status_code == 201, started.text
    assert exactly(started.json()["input"], script)
    sent = post(client, f"/workflows/{id}/messages", {"topic": "go", "payload": value}, escaped=escaped)
    assert sent.status_code == 201, sent.text
    result = client.get(f"/workflows/{id}/result?timeout=20").json()
    event = client.get(f"/workflows/{id}/events/k").json()
    step, receive = client.get(f"/workflows/{id}/steps").json()["steps"]
    (message,) = client.get(f"/workflows/{id}/messages").json()["messages"]
    for found in (result["output"], event["value"], step["output"], receive["output"], message["payload"]):
        assert exactly(found, value)
    # The same start in the other spelling is the same start.
    again = post(client, "/workflows", {"name": "scripted", "id": id, "input": script}, escaped=not escaped)
    assert again.status_code == 200
