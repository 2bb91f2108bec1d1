"""Time limits of a process that is late itself."""

import asyncio
import gc
import time
from collections.abc import Sequence

import pytest

from app import patience
from app.engine.batch import Batch
from app.patience import Limit, Turnstile, within
from tests.support.waiting import eventually

TURNS = 8


async def answered() -> str:
    """As an answer of the database: there all the time, and read in several turns of the loop."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return "answered"


@pytest.fixture
async def busy():
    """Makes each turn of the loop take long, as a burst of requests does."""
    going = True

    def hog() -> None:
        until = time.monotonic() + 0.07
        while time.monotonic() < until:
            pass
        if going:
            asyncio.get_running_loop().call_soon(hog)

    yield hog
    going = False


async def test_an_idle_process_keeps_its_limits():
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with within(0.4):
            await asyncio.Event().wait()
    assert 0.35 < time.monotonic() - began < 1.5


async def test_what_is_done_in_time_has_no_limit_left():
    rung = []
    limit = Limit(0.0, lambda: rung.append("cancelled"))
    await asyncio.sleep(0)
    limit.cancel()
    Limit(0.1, lambda: rung.append("reached"))
    await eventually(lambda: rung)
    assert rung == ["reached"]
    assert asyncio.get_running_loop() not in patience._watches


async def test_a_busy_process_does_not_take_its_own_lateness_for_silence(busy):
    busy()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await answered()
    async with within(0.3):
        assert await answered() == "answered"


async def test_a_process_that_stays_busy_gives_up_at_last(busy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patience, "BUSY", 0.5)
    busy()
    with pytest.raises(TimeoutError):
        async with within(0.1):
            await asyncio.Event().wait()


async def test_a_question_is_not_given_up_while_others_are_answered():
    async def flush(items: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0.1)
        return items

    batch: Batch[int, int] = Batch("slow", flush, 1, patience=0.3)
    answers = await asyncio.gather(*(batch.ask(n) for n in range(10)))
    assert answers == list(range(10))


async def test_a_question_is_given_up_when_nobody_is_answered():
    async def flush(items: Sequence[int]) -> Sequence[int]:
        await asyncio.Event().wait()
        return items

    batch: Batch[int, int] = Batch("stuck", flush, 1, patience=0.3)
    answers = await asyncio.gather(*(batch.ask(n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [TimeoutError] * 3


async def test_whose_turn_does_not_come_leaves_and_who_has_been_sent_stays():
    sent: list[int] = []

    async def flush(items: Sequence[int]) -> Sequence[int]:
        sent.extend(items)
        await asyncio.sleep(0.6)
        return items

    batch: Batch[int, int] = Batch("slow", flush, 1, patience=5.0, turn=0.3)
    answers = await asyncio.gather(*(batch.ask(n) for n in range(3)), return_exceptions=True)
    assert answers[0] == 0
    assert [type(answer) for answer in answers[1:]] == [TimeoutError] * 2
    assert sent == [0]


async def test_only_what_is_alike_goes_out_together_and_no_more_than_has_room():
    sent: list[Sequence[str]] = []

    async def flush(items: Sequence[str]) -> Sequence[str]:
        sent.append(items)
        await asyncio.sleep(0)
        return items

    batch: Batch[str, str] = Batch("alike", flush, 3, size=len, most=3, alike=lambda item: item[0])
    words = ["a1", "b1", "a2", "b2", "a3", "b3", "a4444", "a5", "c1", "c2", "c3", "c4"]
    assert await asyncio.gather(*map(batch.ask, words)) == words
    # By size: one that goes beyond it is the last. And in turns.
    assert sent == [["a1", "a2"], ["b1", "b2"], ["c1", "c2"], ["a3", "a4444"], ["b3"], ["c3", "c4"], ["a5"]]


async def test_a_question_leaves_nothing_for_the_garbage_collection():
    async def flush(items: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0)
        return items

    batch: Batch[int, int] = Batch("tidy", flush, 10, patience=5.0)
    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(*(batch.ask(n) for n in range(1_000)))
        assert gc.collect() < 100
    finally:
        gc.enable()


async def test_a_turnstile_lets_so_many_in_and_the_others_in_their_order():
    turnstile = Turnstile(2, 0.3)
    inside, most, order = 0, 0, []

    async def go(n: int) -> None:
        nonlocal inside, most
        async with turnstile.passed():
            inside += 1
            most = max(most, inside)
            order.append(n)
            await asyncio.sleep(0.1)
            inside -= 1

    # Three times as long as anybody would wait if nothing moved.
    await asyncio.gather(*(go(n) for n in range(20)))
    assert most == 2
    assert order == list(range(20))


async def test_a_turnstile_that_does_not_move_is_left_and_works_afterwards():
    turnstile = Turnstile(1, 0.3)
    async with turnstile.passed():
        with pytest.raises(TimeoutError):
            async with turnstile.passed():
                pass
        gone = asyncio.create_task(turnstile._enter())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait((gone,))
        assert not turnstile._queue
    async with asyncio.timeout(1), turnstile.passed():
        pass
