"""Readers that wait: none misses what is committed, none is answered for nothing, and an answer is of one moment."""

import asyncio
import re
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from app import Context
from app.api.application import build
from app.engine.views import Mode, Reading
from app.model import JsonText, WorkflowId
from tests.support.engine import Engine
from tests.support.points import Gate, at
from tests.support.readers import all_wait, waiting
from tests.support.sessions import under_way
from tests.support.waiting import PATIENCE, eventually

LONG = 3600.0


def read(engine: Engine, id: str, *keys: str, after: int = 0, timeout: float = LONG):
    return engine.runtime.views.events(WorkflowId(id), keys or ("k",), mode=Mode.ALL, after=after, timeout=timeout)


def values(reading: Reading) -> list[Any]:
    return [event and event.value for event in reading.events.values()]


async def soon(reading: "asyncio.Future[Reading]") -> Reading:
    """What it says, long before its time is up: at that moment it would look once more in any case."""
    async with asyncio.timeout(5 * PATIENCE):
        return await reading


class Publisher:
    """A workflow that sets both `k` and `l` to the next number whenever the test says so."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._go: asyncio.Queue[int] = asyncio.Queue()
        self._last = 0

        @engine.workflow
        async def publish(ctx: Context) -> None:
            while number := await ctx.step(self._go.get):
                await ctx.set_event("k", number)
                await ctx.set_event("l", number)

        self._publish = publish

    async def start(self) -> str:
        self.id = await self._engine.begin(self._publish)
        return self.id

    def next(self) -> int:
        self._last += 1
        self._go.put_nowait(self._last)
        return self._last

    async def committed(self) -> None:
        await self._engine.published(self.id, "l", self._last)


@asynccontextmanager
async def publishing(engine: Engine) -> AsyncIterator[Publisher]:
    publisher = Publisher(engine)
    await publisher.start()
    yield publisher
    publisher._go.put_nowait(0)
    await engine.end(publisher.id)


async def test_what_is_committed_after_the_look_wakes_whoever_looked(engine: Engine):
    """It had looked, and did not wait yet."""
    looking = Gate()
    async with publishing(engine) as publisher:
        with at(lookup__after_glance=looking):
            async with under_way(read(engine, publisher.id)) as reading:
                await looking.reached()
                publisher.next()
                await publisher.committed()
                looking.open()
                assert values(await soon(reading)) == ["1"]


async def test_a_wake_up_without_news_answers_nobody(engine: Engine):
    looks = 0

    async def count() -> None:
        nonlocal looks
        looks += 1

    async with publishing(engine) as publisher:
        with at(lookup__after_glance=count):
            async with under_way(read(engine, publisher.id)) as reading:
                for woken in range(4):
                    await eventually(lambda: looks > woken and all_wait(engine), message="it does not look")  # noqa: B023
                    engine.runtime.hub.wake_all()
                # Beats may have it look besides.
                await eventually(lambda: looks >= 5 and all_wait(engine))
                assert not reading.done()
                publisher.next()
                assert values(await soon(reading)) == ["1"]


async def test_a_set_is_told_after_its_commit(engine: Engine):
    """Told earlier, it would be looked for in vain, and not again."""
    commit, looks = Gate(), 0

    async def count() -> None:
        nonlocal looks
        looks += 1

    async with publishing(engine) as publisher, under_way(read(engine, publisher.id)) as reading:
        await waiting(engine)
        with at(journal__before_flush=commit, lookup__after_glance=count):
            publisher.next()
            await commit.reached()
            for _ in range(20):
                await asyncio.sleep(0)
            assert (looks, await engine.events(publisher.id)) == (0, [])
            commit.open()
            assert values(await soon(reading)) == ["1"]


async def test_keys_that_are_set_together_are_read_together(engine: Engine):
    """Between a look at the one and a look at the other both were set again: there must be no such two looks."""
    looking = Gate()
    async with publishing(engine) as publisher:
        publisher.next()
        await publisher.committed()
        with at(lookup__after_glance=looking):
            async with under_way(read(engine, publisher.id, "k", "l", timeout=0)) as reading:
                await looking.reached()
                publisher.next()
                await publisher.committed()
                looking.open()
                assert values(await soon(reading)) == ["1", "1"]


async def test_what_was_seen_of_one_process_is_not_unseen_of_another(pair: tuple[Engine, Engine]):
    """Readers ask both in turn while one of them publishes: whoever asks after an answer sees no less than that."""
    here, there = pair
    seen: list[tuple[float, float, int]] = []
    loop = asyncio.get_running_loop()

    async def ask(publisher: Publisher, turns: int) -> None:
        for turn in range(turns):
            began = loop.time()
            reading = await read((here, there)[turn % 2], publisher.id, timeout=0)
            event = reading.events["k"]
            seen.append((began, loop.time(), event.position if event else 0))

    async with publishing(here) as publisher:
        readers = asyncio.gather(*(ask(publisher, 60) for _ in range(4)))
        while not readers.done():
            publisher.next()
            await publisher.committed()
        await readers
    assert max(position for _, _, position in seen) > 5, "nothing was published meanwhile"
    answers = sorted((answered, position) for _, answered, position in seen)
    at_least = index = 0
    for began, _, position in sorted(seen):
        while index < len(answers) and answers[index][0] < began:
            at_least = max(at_least, answers[index][1])
            index += 1
        assert position >= at_least


async def test_readers_that_go_away_leave_nothing_behind(engine: Engine):
    async with publishing(engine) as publisher:
        readers = [asyncio.ensure_future(read(engine, publisher.id)) for _ in range(500)]
        await eventually(lambda: len(engine.runtime.hub) == 500)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        assert len(engine.runtime.hub) == 0
        assert engine.runtime.hub._watches == {}


async def test_a_stream_that_ends_has_told_everything_though_its_workflow_was_resumed_meanwhile(
    pair: tuple[Engine, Engine],
):
    """It had seen that the workflow was cancelled, and tells how it ended: that must be one and the same moment."""
    engine, other = pair

    async def twice(ctx: Context) -> None:
        await ctx.set_event("k", 1)
        await ctx.receive("go")
        await ctx.set_event("k", 2)

    for one in pair:
        one.workflow(twice)
    id = WorkflowId(await engine.begin("twice"))
    await engine.published(id, "k", 1)
    await engine.runtime.commands.cancel(id)
    resumed, sent = False, b""

    async def resume() -> None:
        nonlocal resumed
        if not resumed:
            resumed = True
            await other.runtime.commands.resume(id)
            await other.runtime.commands.send(id, "go", JsonText("null"))
            await other.end(id)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += message.get("body", b"")

    path = f"/workflows/{id}/stream".encode()
    scope = {
        "type": "http",
        "method": "GET",
        "path": path.decode(),
        "raw_path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    with at(lookup__before_get=resume):
        async with asyncio.timeout(10 * PATIENCE):
            await build(engine.runtime, public_url=None)(scope, receive, send)
    assert re.findall(rb"^id: (\S+)$", sent, re.MULTILINE) == [b"1", b"2", b"2.end"]
    assert b'"status":"SUCCEEDED"' in sent
