"""Whoever waits at an engine's hub."""

import time

from app.engine import views
from tests.support.engine import Engine
from tests.support.waiting import eventually


def all_wait(engine: Engine, workflow_id: str | None = None) -> bool:
    """Whether there are readers (of one workflow), and all of them wait to be woken; before their first look, or
    after it."""
    watches = [watch for watch in engine.runtime.hub._all if workflow_id in (None, watch.workflow_id)]
    return bool(watches) and all(watch._future for watch in watches)


async def waiting(engine: Engine, count: int = 1) -> None:
    """Wait until there are so many, and all of them have looked and wait to be woken."""

    def there() -> bool:
        return len(engine.runtime.hub) == count and all_wait(engine)

    def missing() -> str:
        return f"{len(engine.runtime.hub)} readers, {'all' if all_wait(engine) else 'not all'} of whom wait"

    await eventually(there, message=missing)
    looking = time.monotonic() + views.HEAD_START
    await eventually(lambda: time.monotonic() > looking and there(), message=missing)
