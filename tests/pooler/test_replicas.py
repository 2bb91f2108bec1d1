"""Two real replicas that reach their database by way of PgBouncer."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.databases import Databases
from tests.support.gates import notes
from tests.support.pooler import Pooler
from tests.support.service import Service, plain
from tests.support.sessions import observer
from tests.support.waiting import eventually, eventually_sync

pytestmark = pytest.mark.pooler

TIME_TO_LIVE = 2


@dataclass
class Site:
    """`url` is that of the database itself."""

    url: str
    pooler: Pooler
    replicas: list[Service]


@pytest.fixture(scope="module")
def site(databases: Databases, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with (
        databases.clone(template) as url,
        Pooler(folder / "pgbouncer", databases.url("postgres")) as pooler,
        ExitStack() as running,
    ):
        settings = {
            "DATABASE_URL": pooler.url(url),
            "WORKFLOWS": "tests.support.workflows,tests.support.trials",
            "TIME_TO_LIVE": TIME_TO_LIVE,
            "BEAT": 0.5,
            "LINGER": 0.2,
        }
        replicas = [Service(folder, settings).spawn() for _ in range(2)]
        for replica in replicas:
            running.callback(replica.__exit__)
        for replica in replicas:
            eventually_sync(replica.ready, 40, lambda: replica.log)  # noqa: B023
            eventually_sync(lambda: "as behind a pooler" in plain(replica.log))  # noqa: B023
        yield Site(url, pooler, replicas)
        for replica in replicas:
            assert "Traceback" not in replica.log, replica.log


@pytest.fixture
def meanwhile() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(20) as threads:
        yield threads.submit


def test_a_checkout_goes_through_and_is_seen_everywhere(site: Site, meanwhile):
    one, other = site.replicas
    with one.client() as client, other.client() as elsewhere:
        order = {"name": "checkout", "id": "order", "input": {"sku": "A1"}}
        started = client.post("/workflows", params={"wait_for": "payment_url", "timeout": 20}, json=order)
        assert started.status_code == 201, started.text
        page = started.json()["events"]["payment_url"]["value"]
        seen = meanwhile(elsewhere.get, "/workflows/order/result", params={"timeout": 30})
        assert client.post(f"{page}/pay", follow_redirects=True).is_success
        assert seen.result().json()["output"]["status"] == "shipped"


def test_a_long_poll_at_one_is_answered_soon_after_the_commit_of_another(site: Site, meanwhile):
    one, other = site.replicas
    script = [["receive", "go"], ["set", "k", 1], ["receive", "go"]]
    with one.client() as client, other.client() as elsewhere:
        late = []
        for n in range(10):
            id = f"w{n}"
            client.post("/workflows", json={"name": "scripted", "id": id, "input": script})
            poll = meanwhile(elsewhere.get, f"/workflows/{id}/events/k", params={"timeout": 30})
            sent = client.post(
                f"/workflows/{id}/messages", params={"wait_for": "k"}, json={"topic": "go", "payload": 1}
            )
            assert sent.json()["events"]["k"]["state"] == "set"
            at = time.monotonic()
            assert poll.result().json()["value"] == 1
            late.append(time.monotonic() - at)
        assert sorted(late)[5] < 0.5, late


async def test_a_restart_of_the_pooler_under_load_loses_nothing_and_nobody(site: Site, tmp_path, meanwhile):
    one, other = site.replicas
    plan = {"log": str(tmp_path / "executions"), "pace": 0.05}
    accepted: list[str] = []

    def order(replica: Service, customer: int) -> None:
        with replica.client() as client:
            for n in range(15):
                id = f"steps-{customer}-{n}"
                body = {"name": "steps", "id": id, "input": plan}
                eventually_sync(lambda: client.post("/workflows", json=body).is_success, 20)  # noqa: B023
                accepted.append(id)

    async with observer(site.url) as look:
        orders = [meanwhile(order, replica, n) for n, replica in enumerate([one, other] * 4)]
        for restart in range(3):
            await eventually(lambda: len(accepted) >= 25 * (restart + 1), 20)  # noqa: B023
            site.pooler.stop()
            site.pooler.start()
        for each in orders:
            each.result()
        with other.client() as client:
            for id in accepted:
                ended = client.get(f"/workflows/{id}/result", params={"timeout": 30}).json()
                assert (ended["status"], ended["attempts"]) == ("SUCCEEDED", 1), ended
        (alive,) = await look.rows("select count(*) from executors where alive")
        assert alive.count == 2, "nobody was taken for dead"


def test_a_killed_one_is_replaced_after_its_time_to_live(site: Site, tmp_path):
    one, other = site.replicas
    plan = {"log": str(tmp_path / "executions"), "pace": 0.2}
    with one.client() as client, other.client() as elsewhere:
        ids = [f"steps-{n}" for n in range(10)]
        for id in ids:
            assert client.post("/workflows", json={"name": "steps", "id": id, "input": plan}).status_code == 201
        eventually_sync(lambda: len(notes(tmp_path / "executions")) >= 10)
        one.kill()
        for id in ids:
            ended = elsewhere.get(f"/workflows/{id}/result", params={"timeout": 30}).json()
            assert (ended["status"], ended["attempts"]) == ("SUCCEEDED", 2), ended
