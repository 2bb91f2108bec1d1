"""Memory that was used is used again, in a process of its own: what the C library is told, is told for good."""

import platform
import subprocess
import sys

PROGRAM = """
import resource
from app import memory

if {keep}:
    memory.keep()


def values():
    # As many and as large as there are at once of some requests with a mebibyte each.
    return [bytes([number]) * 1_048_576 for number in range(12)]


for _ in range(3):
    values()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    values()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(*, keep: bool) -> int:
    """How many pages are taken from the system for 120 MiB."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(told.stdout)


def test_values_take_the_memory_that_those_before_have_left():
    kept, given_back = pages(keep=True), pages(keep=False)
    # Other libraries of C know nothing of it, and do as they always do.
    assert kept < 0.1 * given_back or platform.libc_ver()[0] != "glibc"
