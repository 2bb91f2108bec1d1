"""What a workflow leaves is freed as it ends: it may hold megabytes, and a search for circles comes late."""

import gc
from collections.abc import Iterator

import pytest

from app import Context
from app.engine.run import Run
from tests.support.engine import Engine
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def without_a_search() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def all_freed() -> None:
    await eventually(lambda: not any(type(thing) is Run for thing in gc.get_objects()))


async def double(number: int) -> int:
    return 2 * number


async def test_a_workflow_that_was_run_through_is_freed_without_a_search(engine: Engine):
    @engine.workflow
    async def program(ctx: Context, number: int) -> int:
        await ctx.set_event("number", number)
        return await ctx.step(double, number)

    assert await engine.run(program, 1) == 2
    await all_freed()
