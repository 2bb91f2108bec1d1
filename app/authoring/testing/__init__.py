"""Run a workflow in a unit test: no database, no service, no waiting.

    outcome = await testing.run(
        checkout, Order(sku="A1"), steps={create_payment: fake}, messages={"payment": [{"status": "paid"}]}
    )
    assert outcome.output.state == "shipped"
    assert outcome.event("progress") == 100

Time is virtual: a sleep of a day, a time-out or the wait before a retry passes at once, and always
in the same order. Steps are really called unless the test replaces them. Inputs, results and events
pass through JSON by the author's annotations, as they do when they are recorded.

What this does not show is a crash: that the workflow takes the same way again from its records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.authoring import checks, codecs, definitions
from app.authoring.testing.clock import Clock
from app.authoring.testing.outcome import Later, Outcome, Script, SentMessage, StartedChild, StepRun
from app.authoring.testing.rehearsal import Rehearsal
from app.errors import TimedOut
from app.model import Status

if TYPE_CHECKING:
    import httpx

__all__ = ["EPOCH", "Later", "Outcome", "SentMessage", "StartedChild", "StepRun", "run"]

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
"""When a run begins, unless it is told otherwise."""


async def run(
    workflow: Callable[..., Awaitable[Any]],
    input: Any = None,
    *,
    id: str = "test",
    messages: Mapping[str, Sequence[Any]] | None = None,
    steps: Mapping[Any, Any] | None = None,
    events: Mapping[str, Mapping[str, Any]] | None = None,
    children: Mapping[Any, Any] | None = None,
    connection: Any = None,
    http: Callable[[httpx.Request], httpx.Response] | None = None,
    start: datetime = EPOCH,
) -> Outcome:
    """Run a workflow to its end. How it fails is told by the outcome; what a start refuses is raised.

    input:      what it is started with; plain JSON does as well as the type itself.
    messages:   by topic, the payloads that have been sent to it; a `Later` one arrives in time.
    steps:      stand-ins by step: a function that is called instead, an exception that is raised, or
                any other value, which is the result. Retries and annotations stay those of the step.
    events:     what `get_event` finds, by workflow id and key; an exception is raised, and a `Later`
                one is set in time.
    children:   what `result` gives, by workflow function or name. A function is called with the
                child's input, an exception makes it a ChildFailed, a `Later` one takes its time.
    connection: what functions of `ctx.transaction` get.
    http:       answers the requests of `ctx.http`: takes an httpx.Request, returns an httpx.Response.
    start:      the time at which the run begins.

    Raises InvalidInput, and AuthoringError when the workflow would wait for ever.
    """
    definition = definitions.of(workflow)
    arguments = definition.arguments(codecs.of(Any).encode(input))
    outcome, clock = Outcome(), Clock()
    script = Script(
        messages=messages or {},
        steps=steps or {},
        events=events or {},
        children=children or {},
        connection=connection,
        http=http,
        start=checks.point_in_time(start),
    )
    context = Rehearsal(checks.workflow_id(id), definition, script, outcome, clock)

    async def main() -> Any:
        return definition.output.round_trip(await workflow(context, *arguments))[1]

    task = asyncio.create_task(main(), name=f"workflow {id}")
    try:
        await clock.drive(task)
    finally:
        await context.close(task)
    outcome.elapsed = clock.elapsed
    if context.expired:
        outcome.status = Status.TIMED_OUT
        outcome.error = TimedOut(f"The workflow took longer than {definition.timeout:g} s.")
    elif task.cancelled() or task.exception() is not None:
        outcome.status = Status.FAILED
        outcome.error = asyncio.CancelledError() if task.cancelled() else task.exception()
    else:
        outcome.status, outcome.output = Status.SUCCEEDED, task.result()
    return outcome
