"""Heartbeats at the moment when a test wants them: for engines whose own come seldom."""

from tests.support.engine import Engine
from tests.support.waiting import eventually


async def rests(engine: Engine) -> None:
    """Wait until it is between two beats."""
    pulse = engine.runtime._pulse
    await eventually(lambda: pulse._poked._waiters, message="its beat does not end")


async def beat(engine: Engine) -> None:
    """Have it beat once more, and wait until it has done what it does after that."""
    await rests(engine)
    clock = engine.runtime._clock
    before = clock._base
    engine.runtime._pulse.poke()
    await eventually(lambda: clock._base > before, message="it does not beat")
    await rests(engine)
