"""Work on large values is done in a thread, that on small ones at once."""

import threading

import pytest

from app import aside


def thread_of(value: str, *, failing: bool = False) -> int:
    if failing:
        raise LookupError(value)
    return threading.get_ident()


async def test_what_is_small_is_not_worth_a_thread() -> None:
    assert await aside.work(aside.LARGE - 1, thread_of, "x") == threading.get_ident()


async def test_what_is_large_is_done_in_a_thread() -> None:
    assert await aside.work(aside.LARGE, thread_of, "x") != threading.get_ident()


@pytest.mark.parametrize("size", [0, aside.LARGE])
async def test_what_goes_wrong_goes_wrong_for_whoever_asked(size: int) -> None:
    with pytest.raises(LookupError, match="x"):
        await aside.work(size, thread_of, "x", failing=True)
