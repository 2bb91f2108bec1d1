"""Replicas over one database: one dies, hangs, stops or is restarted, and the others go on with what it ran."""

import asyncio
import json
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import trials
from tests.support.cluster import Cluster, cluster
from tests.support.gates import notes
from tests.support.service import Service
from tests.support.waiting import eventually_sync
from tests.support.wire import wires

pytestmark = pytest.mark.alone

TIME_TO_LIVE = 6
"""Beyond what a killed replica may take to be noticed, with all slack."""
SETTINGS = {
    "WORKFLOWS": "tests.support.workflows,tests.support.trials",
    "LINGER": 0.2,
    "TIME_TO_LIVE": TIME_TO_LIVE,
    "GRACE": 3,
}
KINDS = ("steps", "threads", "transactions", "sleeps", "receives", "parents", "retries", "gathers")
WORDS = ("one", "two", "three")
SLACK = 1.5
"""Seconds that a machine with other things to do may take longer than is promised."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("site"), SETTINGS) as site:
        yield site


@pytest.fixture(scope="module")
def trio(site: Cluster) -> list[Service]:
    replicas = site.replicas(3)
    site.ask(trials.EFFECTS)
    return replicas


@pytest.fixture
def replicas(site: Cluster, trio: list[Service]) -> Iterator[list[Service]]:
    """All three."""
    site.start(*trio)
    yield trio
    assert not [replica.log for replica in trio if "Traceback" in replica.log]


@pytest.fixture
def pair(site: Cluster, trio: list[Service]) -> Iterator[list[Service]]:
    """Two that run, besides a third perhaps."""
    running = [replica for replica in trio if replica.runs()]
    if len(running) < 2:
        site.start(*trio)
        running = trio
    yield running[:2]
    assert not [replica.log for replica in trio if "Traceback" in replica.log]


class Crowd:
    """Workflows of all kinds, in all states, that were started at one replica."""

    def __init__(self, site: Cluster, name: str, folder: Path, each: int) -> None:
        self.site, self._log = site, folder / "executions"
        self.ids = [f"{name}-{kind}-{n}" for kind in KINDS for n in range(each)]
        self._records: dict[tuple[str, int], Any] = {}
        self.zombie: int | None = None
        """The process that was taken for dead and went on: what it had begun it may end, and nobody takes it."""
        self._told = f"id like '{name}-%'"
        self._under = f"workflow_id like '{name}-%'"

    def start(self, replica: Service, pace: float = 0.3) -> None:
        def start(id: str) -> None:
            plan = {"log": str(self._log), "pace": pace}
            started = client.post("/workflows", json={"name": id.split("-")[1], "id": id, "input": plan})
            assert started.status_code == 201, started.text

        with ThreadPoolExecutor(8) as threads, replica.client() as client:
            list(threads.map(start, self.ids))
        eventually_sync(
            lambda: self.statuses().keys() >= {"RUNNING", "WAITING"} and len(notes(self._log)) > len(self.ids),
            message=lambda: str(self.statuses()),
        )

    def statuses(self) -> Counter[str]:
        return Counter(row[0] for row in self.site.ask(f"select status from workflows where {self._told}"))

    def left_to(self, executor: str) -> int:
        """How many still belong to an executor, or to nobody although they are due."""
        return int(
            self.site.ask(
                f"select count(*) from workflows where {self._told} and ("
                f" (status = 'RUNNING' and executor_id = '{executor}')"
                " or (status in ('QUEUED', 'WAITING') and wake_at <= now()))"
            )[0][0]
        )

    def remember(self) -> None:
        """Keep what is recorded now: it must neither change nor be done again."""
        seen = len(notes(self._log))
        for id, seq, output in self.site.ask(f"select workflow_id, seq, output::text from steps where {self._under}"):
            assert self._records.setdefault((id, seq), (output, seen))[0] == output

    def unrecorded(self, pid: int) -> set[str]:
        """The tokens of executions in a process that left no record so far."""
        recorded = self._tokens()
        return {token for _, _, by, token in map(str.split, notes(self._log)) if int(by) == pid} - recorded

    def _tokens(self) -> set[str]:
        found = self.site.ask(
            f"select output #>> '{{}}' from steps where {self._under} and kind in ('step', 'transaction')"
        )
        return {row[0] for row in found}

    def finish(self, replica: Service) -> None:
        with replica.client() as client:
            for word in WORDS:
                for id in self.ids:
                    if "-receives-" in id:
                        sent = client.post(
                            f"/workflows/{id}/messages",
                            json={"topic": "word", "payload": word},
                            headers={"Idempotency-Key": word},
                        )
                        assert sent.status_code in (200, 201), sent.text
        eventually_sync(lambda: self.statuses().keys() == {"SUCCEEDED"}, 60, lambda: str(self.statuses()))
        self.remember()
        self.judge()

    def judge(self) -> None:
        gaps = f"select workflow_id from events where {self._under} group by 1 having count(*) <> max(position)"
        assert not self.site.ask(gaps), "the log of events has gaps"
        outputs = dict(self.site.ask(f"select id, output::text from workflows where {self._told}"))
        said: dict[str, list[Any]] = {id: [] for id in outputs}
        log = f"select workflow_id, key, value::text from events where {self._under} order by workflow_id, position"
        for id, key, value in self.site.ask(log):
            said[id].append([key, json.loads(value)])
        assert said == {id: json.loads(output) for id, output in outputs.items()}, (
            "what is published is not what is said"
        )
        recorded = self._tokens()
        lines = list(enumerate(map(str.split, notes(self._log))))
        last = {
            (id, label): (token, place)
            for place, (id, label, by, token) in lines
            if int(by) != self.zombie or token in recorded
        }
        tokens = dict(last.values())
        for id, seq, kind, output in self.site.ask(
            f"select workflow_id, seq, kind, output #>> '{{}}' from steps where {self._under}"
        ):
            if kind in ("step", "transaction"):
                assert output in tokens, f"{id}: step {seq} ran again after its record was made"
                assert tokens[output] < self._records[id, seq][1], (
                    f"{id}: step {seq} ran again after its record was seen"
                )
        effects = self.site.ask(f"select token from effects where {self._under}")
        made = self.site.ask(f"select output #>> '{{}}' from steps where {self._under} and kind = 'transaction'")
        assert sorted(effects) == sorted(made)


def seconds_until_nothing_is_left_to(executor: str, crowd: Crowd, since: float) -> float:
    eventually_sync(
        lambda: not crowd.left_to(executor), 30, lambda: f"{crowd.statuses()}, {crowd.left_to(executor)} left"
    )
    return time.monotonic() - since


def test_what_a_killed_replica_ran_goes_on_elsewhere_within_3_seconds(
    site: Cluster, pair: list[Service], tmp_path: Path
):
    # A database that has just come up may have silenced everybody: nobody is declared dead for a time-to-live.
    eventually_sync(lambda: site.ask("select now() - pg_postmaster_start_time()")[0][0].total_seconds() > TIME_TO_LIVE)
    crowd = Crowd(site, "killed", tmp_path, each=13)
    crowd.start(pair[0])
    executor = site.executor(pair[0])
    crowd.remember()
    assert crowd.left_to(executor) > 40
    pair[0].kill()
    assert seconds_until_nothing_is_left_to(executor, crowd, time.monotonic()) < 3 + SLACK
    crowd.finish(pair[1])
    attempts = site.ask("select max(attempts) from workflows where id like 'killed-%'")
    assert attempts == [(2,)]


def test_what_a_hung_replica_ran_goes_on_elsewhere_and_when_it_wakes_it_writes_nothing_of_it(
    site: Cluster, pair: list[Service], tmp_path: Path
):
    hung, other = pair[0], pair[1]
    crowd = Crowd(site, "hung", tmp_path, each=5)
    crowd.start(hung, pace=0.6)
    executor = site.executor(hung)
    crowd.remember()
    hung.signal(signal.SIGSTOP)
    took = seconds_until_nothing_is_left_to(executor, crowd, time.monotonic())
    assert TIME_TO_LIVE - 1.5 < took < TIME_TO_LIVE + 2 + SLACK
    crowd.zombie, zombies = hung.pid, crowd.unrecorded(hung.pid)
    assert zombies
    hung.signal(signal.SIGCONT)
    eventually_sync(lambda: "declared dead, and goes on as another" in hung.log, message=lambda: hung.log)
    eventually_sync(lambda: site.ask(f"select 1 from executors where alive and pid = {hung.pid}"))
    assert site.executor(hung) != executor
    crowd.finish(other)
    assert not zombies & crowd._tokens()
    with hung.client() as client:
        again = client.post("/workflows?wait_for_result=true", json={"name": "echo", "input": 1}).json()
    assert (again["status"], again["output"]) == ("SUCCEEDED", 1)
    assert site.ask(f"select distinct executor_id from workflows where id = '{again['id']}'") == [
        (site.executor(hung),)
    ]


def test_what_a_stopped_replica_ran_goes_on_elsewhere_within_a_second_of_its_exit_and_its_clients_are_answered(
    site: Cluster, pair: list[Service], tmp_path: Path
):
    stopped, other = pair[0], pair[1]
    crowd = Crowd(site, "stopped", tmp_path, each=8)
    crowd.start(stopped)
    executor = site.executor(stopped)
    crowd.remember()
    waiting = [id for id in crowd.ids if "-receives-" in id]
    with ThreadPoolExecutor(len(waiting)) as threads, stopped.client() as client:
        polls = [threads.submit(client.get, f"/workflows/{id}/events/never?timeout=600") for id in waiting]
        eventually_sync(lambda: client.get("/readyz").status_code == 200)
        assert stopped.terminate() == 0
        took = seconds_until_nothing_is_left_to(executor, crowd, time.monotonic())
        assert {poll.result().status_code for poll in polls} == {202}
    assert took < 1 + SLACK
    crowd.finish(other)
    assert site.ask("select max(attempts) from workflows where id like 'stopped-%'") == [(1,)], "a stop is no loss"


def test_an_executor_that_is_told_that_it_is_dead_drops_everything_and_goes_on_under_another_name(
    site: Cluster, pair: list[Service], tmp_path: Path
):
    crowd = Crowd(site, "buried", tmp_path, each=3)
    crowd.start(pair[0])
    executor = site.executor(pair[0])
    crowd.remember()
    site.ask(f"update executors set alive = false where id = '{executor}'")
    seconds_until_nothing_is_left_to(executor, crowd, time.monotonic())
    eventually_sync(lambda: site.ask(f"select 1 from executors where alive and pid = {pair[0].pid}"))
    assert site.executor(pair[0]) != executor
    crowd.finish(pair[0])


def test_healthy_replicas_are_not_taken_over_when_their_sessions_end_or_the_database_is_restarted(
    site: Cluster, pair: list[Service], tmp_path: Path
):
    crowd = Crowd(site, "healthy", tmp_path, each=3)
    crowd.start(pair[0], pace=0.5)
    executors, logs = site.executors(), {replica.pid: len(replica.log) for replica in pair}
    assert len(executors) >= 2
    duties = "('milepost pulse', 'milepost listener', 'milepost notifier')"
    ended = site.ask(f"select pg_terminate_backend(pid) from pg_stat_activity where application_name in {duties}")
    assert len(ended) >= 2 * len(executors)
    site.settle()
    site.crash_database()
    site.settle()
    site.settle()
    assert site.executors() == executors
    crowd.remember()
    crowd.finish(pair[1])
    assert site.ask("select max(attempts) from workflows where id like 'healthy-%'") == [(1,)]
    for replica in pair:
        assert "is dead" not in replica.log[logs[replica.pid] :]


@pytest.mark.hints
async def test_an_event_wakes_who_waits_for_it_at_another_replica(site: Cluster, pair: list[Service]):
    """The delay holds the commit and two trips over the network too; a heartbeat would take half a second."""
    here, there = pair
    delays = []
    async with wires(here.url, 1) as (sender,), wires(there.url, 1) as (waiter,):
        for n in range(120):
            script = [["receive", "go"], ["set", "k", n]]
            await sender.ask("POST", "/workflows", {"name": "scripted", "id": f"wake-{n}", "input": script})
            # Answered by a read of its own, so the next one waits for news.
            await waiter.ask("GET", f"/workflows/wake-{n}/events/k?timeout=0")
            await waiter.send("GET", f"/workflows/wake-{n}/events/k?timeout=20")
            begun = time.time()
            await sender.ask("POST", f"/workflows/wake-{n}/messages", {"topic": "go", "payload": n})
            answer = await waiter.answer()
            assert answer.json["value"] == n
            delays.append(answer.at - begun)
    assert statistics.median(delays) < 0.1, f"{sorted(delays)[::12]}"
    assert statistics.quantiles(delays, n=20)[-1] < 0.25


class Customers:
    """Each orders about ten times a second, by new connections, from any replica that is there."""

    def __init__(self, replicas: list[Service]) -> None:
        self._replicas = replicas
        self.acknowledged: list[str] = []
        self.answers: Counter[int] = Counter()
        self.broken: list[str] = []
        self.stopping = False

    async def order(self, customer: int) -> None:
        number = 0
        while not self.stopping:
            number += 1
            replica = self._replicas[(customer + number) % len(self._replicas)]
            id = f"rolling-{customer}-{number}"
            plan = [["step", number], ["set", "k", number], ["return", number]]
            await self._ask(replica, id, {"name": "scripted", "id": id, "input": plan})
            await asyncio.sleep(0.05)

    async def _ask(self, replica: Service, id: str, body: dict[str, Any]) -> None:
        address = httpx.URL(replica.url)
        try:
            reader, writer = await asyncio.open_connection(address.host, address.port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)  # as a load balancer does: it asks another one
            return
        text = json.dumps(body).encode()
        head = f"POST /workflows?wait_for=k&timeout=10 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(text)}\r\n"
        try:
            writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + text)
            answer = await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.broken.append(f"{id}: {error!r}")
            return
        finally:
            writer.close()
        status = int(answer[9:12])
        if status == 503:
            assert b"retry-after:" in answer.lower()
        self.answers[status] += 1
        if status == 201:
            self.acknowledged.append(id)


async def test_replicas_are_restarted_one_after_the_other_under_load_and_no_client_notices(
    site: Cluster, replicas: list[Service]
):
    customers = Customers(replicas)
    orders = [asyncio.create_task(customers.order(n)) for n in range(6)]
    try:
        for number in range(4):
            replica = replicas[number % 3]
            assert await asyncio.to_thread(replica.terminate) == 0, replica.log
            await asyncio.to_thread(replica.start, 90)
    finally:
        customers.stopping = True
        await asyncio.gather(*orders)
    assert not customers.broken
    assert customers.answers.keys() <= {201, 503}, customers.answers
    assert customers.answers[201] > 200
    left = "select count(*) from workflows where id like 'rolling-%' and status <> 'SUCCEEDED'"
    eventually_sync(lambda: site.ask(left) == [(0,)], 20, lambda: str(site.ask(left)))
    there = {row[0] for row in site.ask("select id from workflows where id like 'rolling-%'")}
    assert set(customers.acknowledged) <= there
    assert site.ask("select max(attempts) from workflows where id like 'rolling-%'") == [(1,)]
