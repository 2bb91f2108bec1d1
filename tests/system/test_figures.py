"""What the service may cost, and how fast it must be.

The bounds hold on a busy machine too; the figures themselves are printed (`pytest -s`, or `-rP`).
"""

import asyncio
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psycopg
import pytest

from app.store.embedded import EmbeddedPostgres
from tests.support.service import Service
from tests.support.waiting import eventually
from tests.support.wire import Answer, Wire, wires

pytestmark = pytest.mark.alone

ORDER = {"name": "purchase", "input": {"sku": "A1", "quantity": 2}}
SETTINGS = {
    "log_line_prefix": "%a|",  # which duty of the service asks
    "log_parameter_max_length": "0",
    "track_commit_timestamp": "on",
}


class Watched:
    """A durable PostgreSQL that keeps a list of its statements when asked to."""

    def __init__(self, folder: Path) -> None:
        self.postgres = EmbeddedPostgres(folder)
        self._log = folder / "postgres.log"
        with self.postgres:
            for name, value in SETTINGS.items():
                self.ask(f"alter system set {name} = '{value}'")
        self.postgres.start()

    def ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def statements(self) -> Iterator[Callable[[], list[tuple[str, str]]]]:
        """Yields a function that tells the statements of the service since the beginning: (duty, text)."""
        self.ask("alter system set log_statement = 'all'")
        self.ask("select pg_reload_conf()")
        begin = len(self._log.read_text())
        said = re.compile(r"^milepost ?([^|]*)\|LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", re.MULTILINE)
        try:
            yield lambda: said.findall(self._log.read_text()[begin:])
        finally:
            self.ask("alter system reset log_statement")
            self.ask("select pg_reload_conf()")

    def connections(self) -> int:
        return int(self.ask("select count(*) from pg_stat_activity where application_name like 'milepost%'")[0][0])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(tmp_path_factory.mktemp("watched"))
    yield watched
    watched.postgres.stop()


@pytest.fixture(scope="module")
def service(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"DATABASE_URL": watched.postgres.url(), "WORKFLOWS": "tests.bench.workflows", "LINGER": 0.2}
    with Service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service
        assert service.terminate() == 0, service.log


@pytest.fixture(autouse=True, scope="module")
def _many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))


def told(what: str, milliseconds: list[float]) -> None:
    cuts = quantiles(milliseconds, n=100)
    print(f"{what}: median {median(milliseconds):.2f} ms, p99 {cuts[98]:.2f} ms, of {len(milliseconds)}")


async def milliseconds(wire: Wire, method: str, target: str, body: Any, status: int) -> float:
    began = time.perf_counter()
    answer = await wire.ask(method, target, body)
    assert answer.status == status, answer.body
    return (time.perf_counter() - began) * 1000


async def start(wire: Wire, id: str, name: str = "answer") -> None:
    answer = await wire.ask("POST", "/workflows", {"name": name, "id": id})
    assert answer.status == 201, answer.body


async def ask(wire: Wire, id: str) -> None:
    answer = await wire.ask("POST", f"/workflows/{id}/messages", {"topic": "question", "payload": "why"})
    assert answer.status == 201, answer.body


async def test_a_checkout_of_two_steps_and_an_event_is_three_writes(service: Service, watched: Watched):
    """Told by the server's own list of statements, of a checkout by one request and of one by two."""
    async with wires(service.url, 1) as (wire,):
        for _ in range(5):
            await wire.ask("POST", "/workflows?wait_for_result=true", ORDER)
        checkouts = 20
        with watched.statements() as statements:
            # It is heard when one of the service's own beats is.
            await eventually(lambda: any(duty == "pulse" for duty, _ in statements()))
            before = len(statements())
            for _ in range(checkouts):
                answer = await wire.ask("POST", "/workflows?wait_for=payment_url&wait_for_result=true", ORDER)
                assert answer.json["output"] == "confirmed"
            seen = statements()[before:]
    duties = Counter(duty for duty, _ in seen)
    writes = Counter(duty for duty, text in seen if re.search(r"\b(insert into|update|delete from)\b", text))
    print(f"of {checkouts} checkouts: statements {dict(duties)}, those that may write {dict(writes)}")
    assert sum(count for duty, count in writes.items() if duty.startswith("journal")) <= 3 * checkouts
    assert {duty for duty in writes if not duty.startswith("journal")} <= {"pulse"}


async def test_an_idle_service_asks_twice_a_second_whatever_waits(service: Service, watched: Watched):
    polls, parked, seconds = 500, 200, 5
    async with wires(service.url, polls) as pollers:
        for number in range(parked):
            await start(pollers[0], f"idle-{number}")
        waiting = "select count(*) from workflows where status = 'WAITING' and id like 'idle-%'"
        await eventually(lambda: watched.ask(waiting)[0][0] == parked)
        for number, poller in enumerate(pollers):
            await poller.send("GET", f"/workflows/idle-{number % parked}/events/answer?timeout=600")
        with watched.statements() as statements:

            def beats() -> int:
                return sum(duty == "pulse" for duty, _ in statements())

            await eventually(lambda: beats() >= 2, message="no beat was heard, or the first reads are not over")
            before, first, began = len(statements()), beats(), time.monotonic()
            await eventually(lambda: beats() >= first + seconds, timeout=30)
            took = time.monotonic() - began
            seen = Counter(duty for duty, _ in statements()[before:])
    rate = seen.total() / took
    print(f"{polls} polls, {parked} parked workflows: {rate:.2f} statements/s, {dict(seen)} in {took:.1f} s")
    assert rate <= 2.5


async def test_a_waiting_read_is_answered_as_soon_as_the_event_is_committed(service: Service, watched: Watched):
    answers: dict[str, float] = {}
    async with wires(service.url, 2) as (poller, asker):
        for number in range(150):
            id = f"soon-{number}"
            await start(asker, id)
            await poller.send("GET", f"/workflows/{id}/events/answer?timeout=25")
            await asker.ask("GET", f"/workflows/{id}/events/answer?timeout=0")  # so the poll has been read, and waits
            await ask(asker, id)
            answer = await poller.answer()
            assert answer.status == 200
            answers[id] = answer.at
    late = [1000 * (answers[id] - at) for id, at in commits(watched).items() if id in answers]
    told("from the commit of an event to its bytes at the client, the disk's part included", late)
    assert len(late) == 150
    assert median(late) < 20


async def test_a_payment_url_is_at_hand_after_one_short_request(service: Service):
    took: dict[str, list[float]] = {
        "start alone": [],
        "start to payment_url": [],
        "shipped checkout to payment_url": [],
    }
    async with wires(service.url, 1) as (wire,):
        for _ in range(150):
            took["start alone"].append(await milliseconds(wire, "POST", "/workflows", ORDER, 201))
            one = "/workflows?wait_for=payment_url"
            took["start to payment_url"].append(await milliseconds(wire, "POST", one, ORDER, 201))
            shop = {"name": "checkout", "input": {"sku": "A1"}}
            took["shipped checkout to payment_url"].append(await milliseconds(wire, "POST", one, shop, 201))
    for what, times in took.items():
        told(what, times)
    assert median(took["start to payment_url"]) < 30


async def test_2000_long_polls_hold_nothing_and_hinder_nobody(service: Service, watched: Watched):
    polls, asked = 2000, 20
    async with wires(service.url, polls) as pollers, wires(service.url, asked) as others:
        starter = others[0]
        for number, other in enumerate(others):
            await start(other, f"many-{number}")
        alone = [await milliseconds(starter, "POST", "/workflows", ORDER, 201) for _ in range(100)]
        connections = watched.connections()

        for number, poller in enumerate(pollers):
            await poller.send("GET", f"/workflows/many-{number % asked}/events/answer?timeout=600")
        answers = [asyncio.create_task(poller.answer()) for poller in pollers]
        # Whatever has been sent is read, and waits, when a few requests sent after it have been answered.
        for _ in range(20):
            await milliseconds(starter, "GET", "/workflows/many-0", None, 200)
        beside = [await milliseconds(starter, "POST", "/workflows", ORDER, 201) for _ in range(100)]
        with_polls = watched.connections()
        assert not any(answer.done() for answer in answers)

        await asyncio.gather(*(ask(other, f"many-{number}") for number, other in enumerate(others)))
        arrived: list[Answer] = await asyncio.gather(*answers)
    assert {answer.status for answer in arrived} == {200}
    at = commits(watched)
    late = [1000 * (answer.at - at[f"many-{number % asked}"]) for number, answer in enumerate(arrived)]
    told(f"from the commit of one of {asked} events to the bytes of one of {polls} polls", late)
    told("a start alone", alone)
    told(f"a start beside {polls} polls", beside)
    print(f"database connections: {connections} without the polls, {with_polls} with them")
    # The pool gives some back, or takes some, for reasons of its own.
    assert with_polls < connections + 5
    assert max(late) < 2000
    assert median(beside) < 2 * median(alone) + 2


def commits(watched: Watched) -> dict[str, float]:
    """When the events of each workflow were committed, by the database, which has the same clock as we."""
    return {
        id: float(at)
        for id, at in watched.ask("select workflow_id, extract(epoch from pg_xact_commit_timestamp(xmin)) from events")
    }
