"""More than the service takes, or a database that does not answer: told at once, bounded, and soon over."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest

from app.store.embedded import EmbeddedPostgres
from tests.support.crowd import crowd, files, megabytes
from tests.support.service import Service
from tests.support.waiting import eventually
from tests.support.wire import Wire, wires

pytestmark = pytest.mark.apart

BUFFER = 200
SETTINGS = {
    "WORKFLOWS": "tests.support.workflows,tests.stress.floods",
    "EXAMPLES": False,
    "START_BUFFER": BUFFER,
    "LINGER": 0.2,
}
ECHO = {"name": "echo", "input": 1}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("overload"), fsync=False) as postgres:
        yield postgres


@pytest.fixture
async def admin(postgres: EmbeddedPostgres) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(postgres.url(), autocommit=True) as admin:
        yield admin


@asynccontextmanager
async def locked(admin: Any, *tables: str) -> AsyncIterator[None]:
    """Nobody else gets at these tables meanwhile."""
    async with admin.transaction():
        await admin.execute(f"lock table {', '.join(tables)} in access exclusive mode")
        yield


async def ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


def assert_unavailable(response: httpx.Response, *codes: str) -> None:
    assert response.status_code == 503, response.text
    assert response.json()["code"] in codes
    assert int(response.headers["Retry-After"]) >= 1


async def test_a_full_start_buffer_refuses_at_once_and_empties(service: Service, client: httpx.AsyncClient, admin: Any):
    """More starts than the buffer holds, while none is committed."""
    before = megabytes(service)
    outcomes: Counter[str] = Counter()
    quick: list[float] = []

    async def insist(wire: Wire, until: float) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            answer = await wire.ask("POST", "/workflows", {"name": "echo", "input": "x" * 10_000})
            code = answer.json.get("code", "")
            outcomes[code or str(answer.status)] += 1
            if code == "overloaded":
                quick.append(time.monotonic() - began)

    async with wires(service.url, 3 * BUFFER) as clients:
        async with locked(admin, "workflows"):
            await asyncio.gather(*(insist(wire, time.monotonic() + 3) for wire in clients))
        began = time.monotonic()
        await eventually(lambda: ready(client), timeout=10)
        answer = await clients[0].ask("POST", "/workflows?wait_for_result=true&timeout=10", ECHO)
        assert answer.status == 201
        recovered = time.monotonic() - began
    print(f"{dict(outcomes)}, the quickest refused in {min(quick) * 1000:.0f} ms; well again after {recovered:.1f} s")
    assert set(outcomes) == {"overloaded", "database-unavailable"}
    assert outcomes["overloaded"] > BUFFER
    assert megabytes(service) < before + 150


async def test_while_a_table_is_locked_everybody_is_told_in_time(client: httpx.AsyncClient, admin: Any):
    start = {"name": "scripted", "id": "held", "input": [["receive", "go"], ["set", "k", 1]]}
    assert (await client.post("/workflows", json=start)).status_code == 201
    poll = asyncio.ensure_future(timed(client.get("/workflows/held/events/k?timeout=2")))
    long = asyncio.ensure_future(client.get("/workflows/held/events/k?timeout=60"))
    assert (await client.get("/workflows/held/events/k?timeout=0.1")).status_code == 202
    async with locked(admin, "workflows", "events", "messages"):
        await eventually(lambda: unready(client), timeout=5)
        for method, target, body in (
            ("GET", "/workflows/held", None),
            ("GET", "/workflows/held/events/k?timeout=60", None),
            ("GET", "/workflows/held/history", None),
            ("POST", "/workflows", ECHO),
            ("POST", "/workflows/held/messages", {"topic": "go", "payload": 1}),
            ("POST", "/workflows/held/cancel", None),
        ):
            response, took = await timed(client.request(method, target, json=body))
            assert_unavailable(response, "database-unavailable")
            assert took < 3, f"{method} {target} took {took:.1f} s"
        response, took = await poll
        assert_unavailable(response, "database-unavailable")
        assert 1.9 < took < 5
    assert not long.done()
    await eventually(lambda: ready(client), timeout=10)
    body = {"topic": "go", "payload": 1}
    assert (await client.post("/workflows/held/messages", json=body)).status_code == 201
    assert (await long).json()["value"] == 1


async def unready(client: httpx.AsyncClient) -> bool:
    return not await ready(client)


async def timed(request: Any) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    response = await request
    return response, time.monotonic() - began


async def test_a_row_that_somebody_holds_is_told_and_hinders_nobody_else(client: httpx.AsyncClient, admin: Any):
    for id in ("mine", "yours"):
        start = {"name": "scripted", "id": id, "input": [["receive", "go"], ["receive", "go"]]}
        assert (await client.post("/workflows", json=start)).status_code == 201
    async with admin.transaction():
        await admin.execute("select from workflows where id = 'mine' for update")
        body = {"topic": "go", "payload": 1}
        held = [asyncio.ensure_future(timed(client.post("/workflows/mine/messages", json=body))) for _ in range(20)]
        for _ in range(20):
            response, took = await timed(client.post("/workflows/yours/messages", json={"topic": "no", "payload": 1}))
            assert response.status_code == 201
            assert took < 2
        for response, took in await asyncio.gather(*held):
            assert_unavailable(response, "database-unavailable")
            assert took < 4
        assert (await client.get("/workflows/mine")).status_code == 200


async def test_a_read_only_database_is_told_and_left_when_it_is_over(client: httpx.AsyncClient, admin: Any):
    id = "readonly"
    await client.post("/workflows", json={"name": "scripted", "id": id, "input": [["receive", "go"], ["return", 7]]})
    await admin.execute("alter system set default_transaction_read_only = on")
    await admin.execute("select pg_reload_conf()")
    try:
        await eventually(lambda: unready(client), timeout=5)
        assert_unavailable(await client.post("/workflows", json=ECHO), "database-unavailable")
        body = {"topic": "go", "payload": 1}
        assert_unavailable(await client.post(f"/workflows/{id}/messages", json=body), "database-unavailable")
        assert (await client.get("/healthz")).status_code == 200
    finally:
        await admin.execute("set default_transaction_read_only = off")
        await admin.execute("alter system reset default_transaction_read_only")
        await admin.execute("select pg_reload_conf()")
    await eventually(lambda: ready(client), timeout=10)
    assert (await client.post(f"/workflows/{id}/messages", json=body)).status_code == 201
    ended = (await client.get(f"/workflows/{id}/result?timeout=20")).json()
    assert (ended["status"], ended["output"]) == ("SUCCEEDED", 7)


async def test_twice_as_many_callers_get_as_much_done_and_a_storm_passes(service: Service, scale: int):
    """Each sends its next start when the last was answered; in the storm refused ones come again at once."""
    seconds = 3.0 * min(scale, 4)

    async def served(callers: int) -> tuple[float, Counter[int]]:
        statuses: Counter[int] = Counter()

        async def insist(wire: Wire) -> None:
            while time.monotonic() < end:
                statuses[(await wire.ask("POST", "/workflows", ECHO)).status] += 1

        async with wires(service.url, callers) as clients:
            began = time.monotonic()
            end = began + seconds
            await asyncio.gather(*map(insist, clients))
            return statuses[201] / (time.monotonic() - began), statuses

    peak, _ = await served(BUFFER // 4)
    twice, _ = await served(BUFFER // 2)
    storm, statuses = await served(4 * BUFFER)
    print(
        f"{peak:.0f} starts/s by {BUFFER // 4} callers, {twice:.0f}/s by {BUFFER // 2}, {storm:.0f}/s by {4 * BUFFER}"
    )
    print(f"the storm's answers: {dict(statuses)}")
    assert twice > 0.6 * peak
    assert set(statuses) <= {201, 503}
    assert storm > 0
    _, statuses = await served(10)
    assert set(statuses) == {201}


async def test_a_step_that_stops_the_process_for_seconds_harms_nobody(client: httpx.AsyncClient):
    """Less than the time-to-live: late, and nothing else."""
    for number in range(5):
        body = {"name": "scripted", "id": f"beside-{number}", "input": [["sleep", 0.5], ["set", "k", 1], ["step", 2]]}
        assert (await client.post("/workflows", json=body)).status_code == 201
    response = await client.post("/workflows?wait_for_result=true&timeout=20", json={"name": "blocks", "input": 3})
    assert response.json()["output"] == 3
    for number in range(5):
        ended = (await client.get(f"/workflows/beside-{number}/result?timeout=20")).json()
        assert (ended["status"], ended["attempts"]) == ("SUCCEEDED", 1)


async def test_a_process_without_files_left_lives_and_recovers(service: Service, client: httpx.AsyncClient):
    """Connections that it can't take wait, or are closed; those that it has are answered."""
    assert await ready(client)
    limits = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (files(service) + 10, limits[1]))
    try:
        with crowd(service) as clients:
            await clients.ask(100, "/healthz")
            await eventually(lambda: clients.answered() >= 5)
            for _ in range(10):
                assert (await client.get("/healthz")).status_code == 200
            assert (await client.post("/workflows", json=ECHO)).status_code in (201, 503)
    finally:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, limits)
    async with service.async_client() as other:
        response = await other.post("/workflows?wait_for_result=true&timeout=20", json=ECHO)
        assert (response.status_code, response.json()["status"]) == (201, "SUCCEEDED")
