"""The load: clients that start programs, wait for what they publish, talk to them, cancel and resume some.

A client that gets no answer asks again, another replica as a rule, with the same id or key. So what was acknowledged
is known, and what was not has come to be at most once.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.chaos.client import LOST, Answer, Client, Look, Operation, Records, wall
from tests.chaos.program import FROM_OUTSIDE, Fate, Program, unit
from tests.chaos.workflows import KEYS

AT_ONCE = 250
"""Units of load that are under way at once, at most: a service that stands still gets no more to do."""
ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "DEAD"})


@dataclass(frozen=True)
class Reading:
    """The whole log of a workflow, as one client got it piece by piece from any replicas."""

    kind: str
    workflow_id: str
    events: list[tuple[int, str, Any]]


class Load:
    def __init__(self, client: Client, seed: int, rate: float) -> None:
        self._client, self._records = client, client.records
        self._seed, self._rate = seed, rate
        self._rng = random.Random(f"{seed}/load")
        self._conversations: set[asyncio.Task[None]] = set()
        self.units = 0
        self.programs: dict[str, Program] = {}
        """By id: what was acknowledged."""
        self.asked: dict[str, Program] = {}
        """By the id that its client chose: what was asked for."""
        self.cancels: dict[str, tuple[float, float | None]] = {}
        """When, by the time of day, a cancel was acknowledged, and the first request to resume was made."""
        self.resumes: Counter[str] = Counter()
        self.messages: dict[tuple[str, str], int] = {}
        """The positions of acknowledged messages, by workflow and key."""
        self.readings: list[Reading] = []

    @property
    def records(self) -> Records:
        return self._records

    async def run(self, until: float) -> None:
        """Begin units of load, at random moments."""
        while time.monotonic() < until:
            await asyncio.sleep(self._rng.expovariate(self._rate))
            if len(self._conversations) < AT_ONCE:
                self.begin(unit(self._seed, self.units), str(self.units))
                self.units += 1

    def begin(self, programs: list[Program], name: str) -> None:
        task = asyncio.create_task(self._converse(programs, name), name=f"unit {name}")
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def finish(self, timeout: float) -> None:
        """Wait until every client has what it wanted."""
        left = set(self._conversations)
        if left:
            _, left = await asyncio.wait(left, timeout=timeout)
        for task in left:
            self._records.violate(f"{task.get_name()}: its client was still waiting {timeout:g} s after all was healed")
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # ---- one unit

    async def _converse(self, programs: list[Program], name: str) -> None:
        rng = random.Random(f"{self._seed}/{name}/client")
        try:
            async with asyncio.TaskGroup() as group:
                for program in programs:
                    id = await self._start(program, rng)
                    talk = partial(group.create_task, name=f"unit {name}")
                    talk(self._send(program, id, rng))
                    talk(self._call_back(program, id))
                    if program.fate in FROM_OUTSIDE:
                        talk(self._cancel(program, id, rng))
                    if (reader := rng.choices(self._readers, (40, 25, 12, 12, 11))[0]) is not None:
                        talk(reader(self, program, id, rng))
        except ExceptionGroup as group_of_errors:
            for error in group_of_errors.exceptions:
                self._records.violate(f"unit {name}: {type(error).__name__}: {error}")

    async def _start(self, program: Program, rng: random.Random) -> str:
        body: dict[str, Any] = {"name": program.definition, "input": program.commands}
        headers = {}
        if program.keyed:
            headers["Idempotency-Key"] = program.name
        else:
            body["id"] = program.name
            self.asked[program.name] = program
        if program.delay:
            body["delay"] = program.delay
        if program.timeout is not None:
            body["timeout"] = program.timeout
        target = "/workflows"
        if waits := rng.random() < 0.3:
            target += f"?wait_for={KEYS[0]}&timeout=2"
        ask = partial(
            self._client.insist, "start", program.name, "POST", target, body, headers=headers, expected={200, 201}
        )
        answer = await ask(timeout=8.0 if waits else 6.0)
        id = answer.json["id"]
        if not program.keyed and id != program.name:
            self._records.violate(f"the start of {program.name} was answered with {id}")
        self.programs[id] = program
        if rng.random() < 0.1:
            again = await ask()
            if (again.status, again.json["id"]) != (200, id):
                self._records.violate(f"a second start of {id} was answered {again.status} {again.json['id']}")
        return str(id)

    async def _send(self, program: Program, id: str, rng: random.Random) -> None:
        for number, (topic, payload) in enumerate(program.messages):
            # Now and then later than a waiting workflow stays in memory.
            await asyncio.sleep(rng.random() * (0.3 if rng.random() < 0.8 else 2.5))
            if not await self._say(program, id, f"key-{number}", topic, payload):
                return
            if rng.random() < 0.15:
                await self._say(program, id, f"key-{number}", topic, payload)

    async def _say(self, program: Program, id: str, key: str, topic: str, payload: Any) -> bool:
        """Send until it is acknowledged; False: the workflow has ended."""
        answer = await self._unless_ended(
            program, "message", id, f"/workflows/{id}/messages", {"topic": topic, "payload": payload}, key
        )
        if answer is None:
            return False
        message = answer.json
        known = self.messages.setdefault((id, key), message["position"])
        if known != message["position"] or message["topic"] != topic:
            self._records.violate(f"message {key} of {id} came back as {message}, and was at {known} before")
        return True

    async def _unless_ended(
        self, program: Program, kind: str, id: str, target: str, body: Any, key: str | None = None
    ) -> Answer | None:
        """Ask until it is acknowledged; None: the workflow was ended from outside, and stays so."""
        may_end = program.fate not in (Fate.SUCCEEDS, Fate.FAILS)
        expected = {200, 201, 204, 409} if may_end else {200, 201, 204}
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            answer = await self._client.insist(kind, id, "POST", target, body, headers=headers, expected=expected)
            if answer.status != 409:
                return answer
            if program.fate is not Fate.RESUMED:
                return None
            await asyncio.sleep(0.2)

    async def _call_back(self, program: Program, id: str) -> None:
        after = 0
        for _, payload in program.callbacks:
            while True:
                answer, _ = await self._look(program, id, "callback", after, 5.0)
                if answer is None:
                    await asyncio.sleep(0.2)
                elif answer.status == 410 and not self._may_come_back(program, answer.json["workflow_status"]):
                    return
                elif answer.status == 200:
                    break
                elif answer.status == 410:
                    await asyncio.sleep(0.2)
            after = answer.json["position"]
            path = "/callbacks/" + answer.json["value"].rpartition("/")[2]
            if await self._unless_ended(program, "callback", id, path, payload) is None:
                return

    async def _cancel(self, program: Program, id: str, rng: random.Random) -> None:
        await asyncio.sleep(rng.random() * 1.5)
        answer = await self._client.insist("cancel", id, "POST", f"/workflows/{id}/cancel", expected={200, 409})
        acknowledged = wall(time.monotonic())
        if answer.status == 409:
            if (status := answer.json.get("workflow_status")) not in ENDED - {"CANCELLED"}:
                self._records.violate(f"the cancel of {id} was refused, though it is {status}")
            return
        if (status := answer.json["status"]) != "CANCELLED":
            self._records.violate(f"the cancel of {id} was answered with {status}")
        self.cancels[id] = (acknowledged, None)
        if program.fate is Fate.RESUMED:
            await asyncio.sleep(rng.random())
            self.cancels[id] = (acknowledged, wall(time.monotonic()))
            await self._resume(program, id)

    async def _resume(self, program: Program, id: str) -> None:
        """Resume it, and again when an earlier cancel that had no answer comes in late."""
        status = "CANCELLED"
        while status == "CANCELLED":
            # 409: a resume that had no answer was followed by the end.
            await self._client.insist("resume", id, "POST", f"/workflows/{id}/resume", expected={200, 409})
            self.resumes[id] += 1
            while True:
                answer, _ = await self._result(id)
                if answer is not None and (status := answer.json["status"]) in ENDED:
                    break
                await asyncio.sleep(0.1)

    # ---- who waits

    @staticmethod
    def _may_come_back(program: Program, status: str) -> bool:
        return program.fate is Fate.RESUMED and status == "CANCELLED"

    async def _look(
        self, program: Program, id: str, key: str, after: int, timeout: float
    ) -> tuple[Answer | None, Operation]:
        answer, operation = await self._client.ask(
            "poll",
            id,
            "GET",
            f"/workflows/{id}/events/{key}?after={after}&timeout={timeout:g}",
            expected={200, 202, 410},
            timeout=timeout + 6,
        )
        if answer is not None and answer.status != 410:
            self._records.looks.append(
                Look(
                    id,
                    key,
                    operation.replica,
                    wall(operation.began),
                    wall(operation.ended),
                    after,
                    timeout,
                    answer.json["position"],
                    pending=answer.status == 202,
                    drained=answer.headers.get("connection") == "close",
                )
            )
        return answer, operation

    async def _follow_key(self, program: Program, id: str, rng: random.Random) -> None:
        key, after = rng.choice(KEYS), 0
        while True:
            answer, _ = await self._look(program, id, key, after, rng.choice((0.0, 0.5, 2.0, 20.0)))
            if answer is None or answer.status == 202:
                await asyncio.sleep(0.1)
            elif answer.status == 200:
                after = answer.json["position"]
            elif self._may_come_back(program, answer.json["workflow_status"]):
                await asyncio.sleep(0.2)
            else:
                return

    async def _read_history(self, program: Program, id: str, rng: random.Random) -> None:
        events: list[tuple[int, str, Any]] = []
        after = 0
        while True:
            answer, _ = await self._client.ask(
                "history", id, "GET", f"/workflows/{id}/history?after={after}&timeout=3", expected={200}, timeout=9.0
            )
            if answer is None:
                await asyncio.sleep(0.1)
                continue
            page = answer.json
            events += [(event["position"], event["key"], event["value"]) for event in page["events"]]
            if page["position"] < after:
                self._records.violate(f"the history of {id} went back from {after} to {page['position']}")
            after = page["position"]
            if not page["events"] and page["workflow_status"] in ENDED:
                if not self._may_come_back(program, page["workflow_status"]):
                    break
                await asyncio.sleep(0.2)
        self.readings.append(Reading("history", id, events))

    async def _read_stream(self, program: Program, id: str, rng: random.Random) -> None:
        reader = _StreamReader(self._client, self._records, id)
        while not await reader.connect() or self._may_come_back(program, reader.ended_as):
            await asyncio.sleep(0.1 + rng.random() * 0.2)
        self.readings.append(Reading("stream", id, reader.events))

    async def _result(self, id: str) -> tuple[Answer | None, Operation]:
        return await self._client.ask(
            "result", id, "GET", f"/workflows/{id}/result?timeout=5", expected={200, 202}, timeout=11.0
        )

    async def _wait_for_result(self, program: Program, id: str, rng: random.Random) -> None:
        while True:
            answer, _ = await self._result(id)
            if answer is None or answer.status == 202:
                await asyncio.sleep(0.1)
            elif self._may_come_back(program, status := answer.json["status"]):
                await asyncio.sleep(0.2)
            elif status in program.statuses:
                return
            else:
                self._records.violate(f"the result of {id} ({program.fate}) is {status}: {answer.json['error']}")
                return

    _readers = (_follow_key, _read_history, _read_stream, _wait_for_result, None)


class _StreamReader:
    """Reads a workflow's stream, and goes on where it was broken off."""

    def __init__(self, client: Client, records: Any, id: str) -> None:
        self._client, self._records, self._id = client, records, id
        self._last = ""
        self.events: list[tuple[int, str, Any]] = []
        self.ended_as = ""

    async def connect(self) -> bool:
        """Read until the stream ends or breaks off; whether the workflow's end was seen."""
        replica = self._client.any_replica()
        headers = {"Last-Event-ID": self._last} if self._last else {}
        lines = self._client.stream(replica, f"/workflows/{self._id}/stream", headers)
        try:
            answer = await anext(lines)
            assert isinstance(answer, Answer)
            if answer.status == 204 and self._last.endswith(".end"):
                # It may have gone on and ended again, without another event.
                self.ended_as = answer.headers["workflow-status"]
                return True
            if answer.status not in (200, 503):
                self._records.violate(f"the stream of {self._id} at {replica} was answered {answer.status}")
            if answer.status != 200:
                return False
            return await self._read(lines)
        except LOST:
            return False
        finally:
            await lines.aclose()

    async def _read(self, lines: Any) -> bool:
        fields: dict[str, str] = {}
        async for line in lines:
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
                continue
            if "id" in fields:
                self._last = fields["id"]
                if fields["event"] == "$end":
                    self.ended_as = Answer(200, {}, fields["data"].encode()).json["status"]
                    return True
                event = Answer(200, {}, fields["data"].encode()).json
                self.events.append((event["position"], fields["event"], event["value"]))
            fields = {}
        return False
