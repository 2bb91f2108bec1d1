"""Ids: of the form that their RFC says, and never the same twice."""

import subprocess
import sys
import time
from uuid import RFC_4122, UUID

import pytest

from app import ids


@pytest.mark.parametrize(("make", "version"), [(ids.uuid4, 4), (ids.uuid7, 7)])
def test_they_are_different_uuids(make, version):
    made = [make() for _ in range(5_000)]
    assert len(set(made)) == len(made)
    for text in made:
        id = UUID(text)
        assert (str(id), id.version, id.variant) == (text, version, RFC_4122)


@pytest.mark.parametrize(("make", "fixed"), [(ids.uuid4, 6), (ids.uuid7, 54)])
def test_all_other_bits_are_random(make, fixed):
    numbers = [UUID(make()).int for _ in range(1_000)]
    ones, zeros = 0, 0
    for number in numbers:
        ones, zeros = ones | number, zeros | ~number
    # A bit that has been both is none that says something.
    assert (ones & zeros & (1 << 128) - 1).bit_count() >= 128 - fixed


def test_a_uuid7_begins_with_the_time_in_milliseconds():
    before = time.time_ns() // 1_000_000
    stamps = [UUID(ids.uuid7()).int >> 80 for _ in range(100)]
    after = time.time_ns() // 1_000_000
    assert before <= stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= after


FORK = """
import os
from app.ids import uuid4
uuid4()
if os.fork() == 0:
    print(uuid4(), flush=True)
    os._exit(0)
os.wait()
print(uuid4())
"""


def test_a_child_process_does_not_give_what_its_parent_gives():
    told = subprocess.run([sys.executable, "-c", FORK], check=True, capture_output=True, text=True).stdout.split()
    assert len(set(told)) == 2
