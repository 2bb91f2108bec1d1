"""`kill -9`, as often as you like: everything goes on where it was, and nothing that is recorded happens again."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.store.embedded import EmbeddedPostgres
from tests.support import trials
from tests.support.gates import notes
from tests.support.service import Service
from tests.support.waiting import eventually_sync

SETTINGS = {"WORKFLOWS": "tests.support.trials", "EXAMPLES": False, "LINGER": 0.2, "BEAT": 0.25, "TIME_TO_LIVE": 5}
DELAYED = "delayed"
WORDS = ("one", "two", "three")


class Trial:
    """Many workflows of every kind, and all that is known of them from outside the service."""

    def __init__(self, service: Service, database_url: str, folder: Path, each: int) -> None:
        self.service, self._database_url, self._each = service, database_url, each
        self._log = folder / "executions"
        self.ids = [f"{kind}-{n}" for kind in (*trials.NAMES, DELAYED) for n in range(each)]
        self._recorded: dict[tuple[str, int], tuple[int, Any]] = {}
        self._published: dict[tuple[str, int], Any] = {}
        self.kills = self.stops = 0
        self._ask(trials.EFFECTS)

    def start(self) -> None:
        self._in_parallel(self._start, self.ids)

    def say(self, word: str) -> None:
        """Send a message to each that waits for some; the key makes it one however often it is sent."""
        self._in_parallel(lambda id: self._say(id, word), [id for id in self.ids if id.startswith("receives-")])

    def states(self) -> set[str]:
        """The statuses that there are now, and the kinds of waits."""
        return {row[0] for row in self._ask("select status from workflows union select kind from waits")}

    def executions(self) -> list[str]:
        return notes(self._log)

    def crash(self) -> None:
        self.service.kill()
        self.kills += 1

    def stop(self) -> int:
        self.stops += 1
        return self.service.terminate()

    def remember(self) -> None:
        """Keep what is in the database now: it must neither change nor happen again."""
        seen = len(self.executions())
        for id, seq, output in self._ask("select workflow_id, seq, output::text from steps"):
            self._recorded.setdefault((id, seq), (seen, output))
            assert self._recorded[id, seq][1] == output
        for id, position, *event in self._ask("select workflow_id, position, key, value::text, set_at from events"):
            assert self._published.setdefault((id, position), event) == event

    def all_have_ended(self) -> bool:
        return not self._ask("select id from workflows where completed_at is null limit 1")

    def judge(self) -> None:
        self.remember()
        lives = 1 + self.kills + self.stops
        executions = defaultdict(list)
        for place, line in enumerate(self.executions()):
            id, label, pid, token = line.split()
            executions[id].append((place, label, pid, token))
        with self.service.client() as client:
            for id in [*self.ids, *(f"parents-{n}.child" for n in range(self._each))]:
                Verdict(client, id, executions[id], self._recorded).give(kills=self.kills, lives=lives)
        effects = self._ask("select workflow_id, label, token from effects")
        assert len(effects) == 4 * self._each
        steps = "select workflow_id, output #>> '{}' from steps where kind = 'transaction'"
        assert sorted((id, token) for id, _, token in effects) == sorted(self._ask(steps))

    def _start(self, id: str) -> None:
        kind, number = id.split("-")
        plan = {"log": str(self._log), "pace": 0.2 + 0.02 * int(number)}
        body: dict[str, Any] = {"name": "steps" if kind == DELAYED else kind, "id": id, "input": plan}
        if kind == DELAYED:
            body["delay"] = 2 + 0.5 * int(number)
        response = self._client.post("/workflows", json=body)
        assert response.status_code == 201, response.text

    def _say(self, id: str, word: str) -> None:
        response = self._client.post(
            f"/workflows/{id}/messages", json={"topic": "word", "payload": word}, headers={"Idempotency-Key": word}
        )
        assert response.status_code == 201, response.text

    def _in_parallel(self, do: Callable[[str], None], ids: list[str]) -> None:
        with ThreadPoolExecutor(16) as threads, self.service.client() as self._client:
            for outcome in [threads.submit(do, id) for id in ids]:
                outcome.result()

    def _ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


class Verdict:
    """Holds what one workflow says of itself against its records and against what its steps really did."""

    def __init__(
        self,
        client: httpx.Client,
        id: str,
        executions: list[tuple[int, str, str, str]],
        recorded: dict[tuple[str, int], tuple[int, Any]],
    ) -> None:
        self.id, self.executions, self.recorded = id, executions, recorded
        self.workflow = client.get(f"/workflows/{id}").json()
        self.steps = client.get(f"/workflows/{id}/steps?limit=1000").json()["steps"]
        self.events = client.get(f"/workflows/{id}/history").json()["events"]

    def give(self, *, kills: int, lives: int) -> None:
        assert self.workflow["status"] == "SUCCEEDED", self.workflow
        assert self.workflow["attempts"] <= 1 + kills, "a stop is no loss"
        self.check_log(lives)
        self.check_executions(lives)

    def check_log(self, lives: int) -> None:
        """Positions are 1, 2, 3 …, and values what the program says."""
        assert [event["position"] for event in self.events] == list(range(1, len(self.events) + 1))
        said = [[event["key"], event["value"]] for event in self.events if event["key"] != "progress"]
        assert said == self.workflow["output"], self.id
        if self.id.startswith("receives-"):
            assert [value[0] for _, value in said] == list(WORDS), "in the order in which they were sent"
        progress = [event["value"] for event in self.events if event["key"] == "progress"]
        if self.id.startswith("streams-"):
            # Each execution of the step begins at 1 and goes up by 1; the last one gets to the end.
            runs = [list(map(int, run.split())) for run in re.split(r"(?<!^)\b(?=1\b)", " ".join(map(str, progress)))]
            assert all(run == list(range(1, len(run) + 1)) for run in runs), progress
            assert len(runs[-1]) == 10
            assert len(runs) <= lives
        else:
            assert not progress

    def check_executions(self, lives: int) -> None:
        """A recorded step is one of its executions, the last, and none began after it was seen recorded."""
        tries: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for place, label, pid, token in self.executions:
            tries[label].append((place, pid, token))
        by_token = {token: label for label, found in tries.items() for _, _, token in found}
        done = [step for step in self.steps if step["kind"] in ("step", "transaction")]
        assert len(done) == len(tries), f"{self.id}: steps without a record, or records without a step"
        for step in done:
            found = tries[by_token[step["output"]]]
            assert found[-1][2] == step["output"], f"{self.id}: ran again after its record was made"
            seen, _ = self.recorded[self.id, step["seq"]]
            assert found[-1][0] < seen, f"{self.id}: ran again after its record was seen"
            allowed = 3 if step["name"] == "succeed_at_the_third_try" else 1
            by_process = Counter(pid for _, pid, _ in found)
            assert len(by_process) <= lives
            if step["kind"] == "step":  # a transaction may be begun again when its commit did not go through
                assert max(by_process.values()) <= allowed, f"{self.id}: ran twice in one life"


ALL_STATES = {"QUEUED", "RUNNING", "WAITING", "SUCCEEDED", "sleep", "receive", "retry", "result"}


def test_200_workflows_in_all_states_come_out_of_three_crashes_as_if_there_had_been_none(
    launch: Callable[..., Service], database_url: str, tmp_path: Path
):
    trial = Trial(launch(**SETTINGS), database_url, tmp_path, each=20)
    trial.start()
    eventually_sync(lambda: trial.states() >= ALL_STATES, timeout=30, message=lambda: f"only {trial.states()}")
    for word in WORDS:
        trial.crash()
        assert not trial.all_have_ended()
        trial.remember()
        before = len(trial.executions())
        trial.service.start()
        trial.say(word)
        eventually_sync(lambda: len(trial.executions()) >= before + 60, timeout=30)  # noqa: B023
    eventually_sync(trial.all_have_ended, timeout=60, message=lambda: str(trial.states()))
    trial.judge()


def test_with_the_embedded_database_recovery_begins_at_once(tmp_path: Path):
    """Its server goes with the service, by crash, and comes back with it; nobody need wait for a time-to-live."""
    settings = {**SETTINGS, "DATA_DIR": tmp_path / "data", "TIME_TO_LIVE": 3600}
    with Service(tmp_path, settings) as service:
        trial = Trial(service, EmbeddedPostgres(tmp_path / "data" / "postgres").url(), tmp_path, each=5)
        trial.start()
        eventually_sync(lambda: len(trial.executions()) >= 60, timeout=30)
        trial.remember()
        trial.crash()
        before = len(trial.executions())
        service.start()
        eventually_sync(lambda: len(trial.executions()) > before, timeout=5)
        for word in WORDS:
            trial.say(word)
        eventually_sync(trial.all_have_ended, timeout=60, message=lambda: str(trial.states()))
        trial.judge()


@pytest.fixture
def customers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(30) as threads:
        yield threads


def test_a_stop_under_load_answers_everybody_and_hands_everything_over(
    launch: Callable[..., Service], database_url: str, tmp_path: Path, customers: ThreadPoolExecutor
):
    service = launch(**SETTINGS, GRACE=1)
    trial = Trial(service, database_url, tmp_path, each=5)
    trial.start()
    stopping = False
    acknowledged: list[str] = []

    def poll(client: httpx.Client, id: str) -> httpx.Response:
        return client.get(f"/workflows/{id}/events/never?timeout=600")

    def order(client: httpx.Client, customer: int) -> Counter[int]:
        """Start one workflow after the other, until the service is gone."""
        answers: Counter[int] = Counter()
        while True:
            id = f"steps-{customer}.{answers.total()}"
            plan = {"log": str(tmp_path / "executions"), "pace": 0.1}
            try:
                response = client.post("/workflows", json={"name": "steps", "id": id, "input": plan})
            except httpx.TransportError:
                assert stopping, "a connection broke before anybody told the service to stop"
                return answers
            answers[response.status_code] += 1
            if response.is_success:
                acknowledged.append(id)

    with service.client(timeout=30) as client:
        polls = [customers.submit(poll, client, id) for id in trial.ids if id.startswith(("receives", "sleeps"))]
        orders = [customers.submit(order, client, customer) for customer in range(8)]
        eventually_sync(lambda: len(acknowledged) >= 50)
        stopping = True
        assert trial.stop() == 0, service.log
        assert {poll.result().status_code for poll in polls} == {202}
        assert all(poll.result().headers["Connection"] == "close" for poll in polls)
        answers = sum((order.result() for order in orders), Counter[int]())
    assert set(answers) <= {201, 503}, answers
    assert "Traceback" not in service.log, service.log

    trial.remember()
    service.start()
    for word in WORDS:
        trial.say(word)
    eventually_sync(trial.all_have_ended, timeout=60, message=lambda: str(trial.states()))
    trial.judge()
    with service.client() as client:
        for id in acknowledged:
            workflow = client.get(f"/workflows/{id}").json()
            assert (workflow["status"], workflow["attempts"]) == ("SUCCEEDED", 1), workflow
