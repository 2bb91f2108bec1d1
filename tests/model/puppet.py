"""The workflow under test: a puppet that does what messages tell it, so that a test decides what happens when.

Each message on the topic "do" is a command: one durable call at most, and then what is published of its outcome.
`contract.py` says what must come of each.
"""

import asyncio
from collections import Counter
from typing import Any

from app import Context, EventNeverSet, Handle, StepFailed, TimedOut, WorkflowFinished, WorkflowNotFound
from app.errors import ChildFailed, WorkflowIdConflict
from tests.support.engine import Engine

LEDGER = "create table ledger (workflow_id text not null, label int not null)"
REFUSALS = (TimedOut, EventNeverSet, WorkflowNotFound, WorkflowFinished, WorkflowIdConflict, ChildFailed, StepFailed)
LONG = 3_600

ran: Counter[tuple[str, int]] = Counter()
"""How often the body of a step was begun: (workflow id, label)."""


async def perform(ctx: Context, label: int) -> int:
    ran[ctx.workflow_id, label] += 1
    await asyncio.sleep(0)
    return label


async def flop(message: str) -> None:
    raise RuntimeError(message)


async def write(connection: Any, id: str, label: int) -> int:
    await connection.execute("insert into ledger values (%s, %s)", [id, label])
    return label


class Puppet:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._children: dict[str, Handle] = {}
        self._memory: list[Any] = []
        """What came of every call so far; after a crash it has to be the same."""

    async def obey(self) -> Any:
        ctx = self._ctx
        while True:
            verb, *given = await ctx.receive("do")
            if verb == "return":
                return given[0]
            if verb == "raise":
                raise ValueError(given[0])
            if verb == "publish":
                await ctx.set_event(*given)
            elif verb == "burst":
                for number in range(given[0]):
                    await ctx.set_event(f"burst {number % 3}", number)
            elif verb == "recall":
                await ctx.set_event("memory", list(self._memory))
            else:
                await self._call(verb, *given)

    async def _call(self, verb: str, *given: Any) -> None:
        try:
            result = await getattr(self, f"_{verb}")(*given)
        except REFUSALS as error:
            if verb == "crash":
                raise
            result = type(error).__name__
        self._memory.append(result)
        # Two keys, which whoever looks must never see apart.
        await self._ctx.set_event("left", result)
        await self._ctx.set_event("right", result)

    async def _step(self, label: int) -> Any:
        return await self._ctx.step(perform, self._ctx, label)

    async def _both(self, one: int, other: int) -> Any:
        return list(await asyncio.gather(self._step(one), self._step(other)))

    async def _flop(self, message: str) -> Any:
        return await self._ctx.step(flop, message)

    _crash = _flop

    async def _write(self, label: int) -> Any:
        return await self._ctx.transaction(write, self._ctx.workflow_id, label)

    async def _nap(self) -> Any:
        await self._ctx.sleep(0.01)

    async def _doze(self) -> Any:
        await self._ctx.sleep(LONG)

    async def _receive(self, topic: str) -> Any:
        return await self._ctx.receive(topic)

    async def _look(self, topic: str) -> Any:
        return await self._ctx.receive(topic, timeout=0)

    async def _child(self, id: str) -> Any:
        self._children[id] = await self._ctx.start("puppet", "a child", id=id)
        return id

    async def _result(self, id: str) -> Any:
        return await self._children[id].result() if id in self._children else "no child"

    async def _stop(self, id: str) -> Any:
        return await self._children[id].cancel() if id in self._children else "no child"

    async def _watch(self, id: str, key: str) -> Any:
        return await self._ctx.get_event(id, key)

    async def _tell(self, id: str, topic: str, payload: Any) -> Any:
        await self._ctx.send(id, topic, payload)

    async def _callback(self, topic: str) -> Any:
        return await self._ctx.callback(topic)

    async def _chance(self) -> Any:
        ctx = self._ctx
        return [ctx.random.random(), str(ctx.uuid()), ctx.now().isoformat()]


async def puppet(ctx: Context, note: Any) -> Any:
    return await Puppet(ctx).obey()


async def guarded(ctx: Context, note: Any) -> Any:
    """A puppet that is cleaned up after."""
    return await Puppet(ctx).obey()


async def cleanup(ctx: Context, about: Any) -> Any:
    return about


async def count(ctx: Context, number: int) -> int:
    return number + 1


async def mute(ctx: Context) -> None:
    """Takes nothing, does nothing."""


def register(engine: Engine) -> None:
    for function in (puppet, cleanup, count, mute):
        engine.workflow(function)
    engine.workflow(guarded, on_abort=cleanup)
