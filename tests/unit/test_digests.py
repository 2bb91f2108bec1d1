import asyncio
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from uuid import UUID

import pytest
from pydantic import BaseModel

from app.authoring.steps import digest


class Item(BaseModel):
    sku: str
    tags: frozenset[str] = frozenset()


@dataclass
class Payment:
    id: str


class Plain(Enum):
    A = "a"


def test_it_is_eight_bytes_that_tell_arguments_apart():
    some = {digest(args, {}) for args in [(), (1,), (2,), ("1",), (None,), (1, 2), ([1, 2],), (True,), ({"a": 1},)]}

    assert len(some) == 9
    assert {len(one) for one in some} == {8}
    assert digest((1,), {}) != digest((), {"a": 1})


def test_equal_arguments_have_equal_digests_however_they_are_kept():
    assert digest(({"a": 1, "b": 2},), {}) == digest((OrderedDict(b=2, a=1),), {})
    assert digest((Item(sku="A1"),), {}) == digest(({"sku": "A1", "tags": []},), {})
    assert digest((Payment("p"),), {}) == digest(({"id": "p"},), {})
    assert digest(((1, 2),), {}) == digest(([1, 2],), {})
    assert digest((Plain.A,), {}) == digest(("a",), {})
    assert digest((MappingProxyType({"a": 1}),), {}) == digest(({"a": 1},), {})
    assert digest((), {"a": 1, "b": 2}) == digest((), {"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (Decimal("1.0"), Decimal("1.1")),
        (UUID(int=1), UUID(int=2)),
        (b"a", b"b"),
        ({1, 2}, {1, 3}),
        ({1: "a"}, {"1": "b"}),
        ({(1, 2): "a"}, {(1, 3): "a"}),
        ({1: "a", "x": 1}, {1: "b", "x": 1}),
    ],
)
def test_values_beyond_plain_json_count_too(one, other):
    assert digest((one,), {}) != digest((other,), {})


def test_integers_too_long_to_be_written_count_too():
    assert digest((10**5_000,), {}) != digest((10**5_000 + 1,), {})


def test_what_has_no_json_form_is_left_out():
    assert digest((object(), 1), {}) == digest((asyncio.Lock(), 1), {})


def test_what_turns_in_a_circle_or_is_very_deep_has_a_digest():
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]

    assert len(digest((circle,), {})) == len(digest((deep,), {})) == 8


def test_an_iterator_is_not_used_up():
    numbers = iter([1, 2])

    digest((numbers,), {})

    assert list(numbers) == [1, 2]


def test_it_is_the_same_in_a_process_with_another_hash_seed():
    program = (
        "from app.authoring.steps import digest\n"
        "from tests.unit.test_digests import Item\n"
        "words = frozenset('abcdefghijklmnop')\n"
        "print(digest((words, {(w, 1): w for w in words}, Item(sku='a', tags=words)), {}).hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(found) == 1
