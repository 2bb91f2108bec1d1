"""Engines in this process: runtimes with definitions of their own, and the points at which tests stop them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from app.authoring import Registry
from app.authoring.definitions import workflow
from app.engine import points
from app.engine.commands import Start
from app.engine.runtime import Limits, Runtime
from app.model import JsonText, Status, Workflow, WorkflowId
from app.store import db
from tests.support.waiting import eventually


@asynccontextmanager
async def engine(url: str, *functions: Callable[..., Awaitable[Any]], **limits: Any) -> AsyncIterator[Runtime]:
    """A started runtime that has these functions registered."""
    registry = Registry()
    for function in functions:
        workflow(registry=registry)(function)
    chosen = Limits(**{"linger": 0.05, "beat": 0.2, "grace": 1.0, **limits})
    runtime = Runtime(db.Database(url), registry, version="test", public_url="http://milepost.test", limits=chosen)
    await runtime.start()
    try:
        yield runtime
    finally:
        points.install(None)
        await runtime.stop()


async def start(runtime: Runtime, name: str, input: str | None = None, id: str | None = None) -> WorkflowId:
    given = Start(name, JsonText(input) if input is not None else None, WorkflowId(id) if id else None)
    return (await runtime.commands.start(given)).workflow.id


async def send(runtime: Runtime, id: str, topic: str, payload: str = "null") -> None:
    await runtime.commands.send(WorkflowId(id), topic, JsonText(payload), None)


async def result(runtime: Runtime, id: str, timeout: float = 10.0) -> Workflow:
    """The workflow when it has ended."""
    workflow = await runtime.views.result(WorkflowId(id), timeout)
    assert workflow.status.terminal, f"{id} has not ended after {timeout:g} s: it is {workflow.status}"
    return workflow


async def reaches(runtime: Runtime, id: str, status: Status) -> None:
    """Wait until a workflow is in this status."""

    async def there() -> bool:
        return (await runtime.views.workflow(WorkflowId(id))).status is status

    await eventually(there, message=f"{id} does not become {status}")


class Gate:
    """A point that holds whoever comes by until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def passed(self) -> None:
        self.reached.set()
        await self.open.wait()


@contextmanager
def at(name: str, do: Callable[[], Awaitable[None]], *, times: int | None = None) -> Iterator[None]:
    """Whenever the engine passes a point (so many times at most), do something; what it raises, the engine gets."""
    left = times

    async def hook(point: str) -> None:
        nonlocal left
        if point != name or left == 0:
            return
        if left is not None:
            left -= 1
        await do()

    points.install(hook)
    try:
        yield
    finally:
        points.install(None)
