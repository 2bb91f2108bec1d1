"""Thousands of clients at once that wait, leave, or say nothing; `STRESS=5` makes them ten thousand."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
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

SETTINGS = {"WORKFLOWS": "tests.support.workflows,tests.stress.floods", "EXAMPLES": False, "LINGER": 0.2}
ROUNDS = 5
AT_ONCE = 2_000


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("crowds"), fsync=False) as postgres:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("alter system set log_line_prefix = '%a|'")
            connection.execute("select pg_reload_conf()")
        yield postgres


async def start(client: httpx.AsyncClient, id: str, *script: list[Any]) -> str:
    response = await client.post("/workflows", json={"name": "scripted", "id": id, "input": list(script)})
    assert response.status_code == 201, response.text
    return id


async def census(client: httpx.AsyncClient) -> dict[str, int]:
    """What the service itself has under way, by the names of its tasks."""
    response = await client.post("/workflows?wait_for_result=true", json={"name": "census"})
    found: dict[str, int] = response.json()["output"]
    return found


async def waiting(client: httpx.AsyncClient, count: int) -> None:
    """Wait until the service attends to so many clients."""
    seen: dict[str, int] = {}

    async def so_many() -> bool:
        seen.clear()
        seen.update(await census(client))
        # The one that asks may be among them.
        return seen.get("attendant", 0) in (count, count + 1)

    await eventually(so_many, timeout=60, message=lambda: f"not {count} waiting requests: {seen}")


async def test_nothing_is_left_of_clients_that_went_away_in_the_middle_of_a_wait(
    service: Service, client: httpx.AsyncClient, scale: int
):
    """In rounds, so that what stays behind would add up: by FIN and by RST, polls and streams."""
    id = await start(client, "left", ["receive", "go"])
    targets = ["events/k?timeout=3000", "result?timeout=3000", "history?timeout=3000", "events?key=k&timeout=3000"]
    count = AT_ONCE * scale // ROUNDS
    before, sizes, freed = files(service), [megabytes(service)], []
    with crowd(service) as clients:
        for number in range(ROUNDS):
            await clients.ask(count, f"/workflows/{id}/{targets[number % len(targets)]}")
            await waiting(client, count)
            began = time.monotonic()
            clients.leave(abruptly=number % 2 == 1)
            await waiting(client, 0)
            freed.append(time.monotonic() - began)
            await eventually(lambda: files(service) <= before + 5)
            sizes.append(megabytes(service))
    print(f"{ROUNDS} rounds of {count}: {[f'{size:.1f}' for size in sizes]} MB, gone after {max(freed):.2f} s")
    assert sizes[-1] - sizes[2] < 10, f"memory grows: {sizes}"


async def test_memory_is_back_when_a_crowd_has_left(service: Service, client: httpx.AsyncClient, scale: int):
    id = await start(client, "crowded", ["receive", "go"])
    count, before = AT_ONCE * scale, megabytes(service)
    with crowd(service) as clients:
        await clients.ask(count, f"/workflows/{id}/events/k?timeout=3000")
        await waiting(client, count)
        held = megabytes(service) - before
        clients.leave(abruptly=True)
        await eventually(lambda: megabytes(service) - before < 0.75 * held, timeout=30)
    print(f"{count} waiting: {held:.1f} MB, {megabytes(service) - before:.1f} MB when they had left")


async def test_all_who_wait_for_one_event_are_answered_by_few_statements(
    service: Service, client: httpx.AsyncClient, postgres: EmbeddedPostgres, scale: int
):
    id = await start(client, "awaited", ["receive", "go"], ["set", "k", "v"], ["receive", "go"])
    count = AT_ONCE * scale
    log = postgres.folder / "postgres.log"
    with crowd(service) as clients, psycopg.connect(postgres.url(), autocommit=True) as admin:
        await clients.ask(count, f"/workflows/{id}/events/k?timeout=3000")
        await waiting(client, count)
        admin.execute("alter system set log_statement = 'all'")
        admin.execute("select pg_reload_conf()")
        mark = len(log.read_bytes())
        began = time.monotonic()
        await client.post(f"/workflows/{id}/messages", json={"topic": "go", "payload": 1})
        await eventually(lambda: clients.answered() == count, timeout=60)
        took = time.monotonic() - began
        admin.execute("alter system reset log_statement")
        admin.execute("select pg_reload_conf()")
        asked = Counter(
            line.split(b"|")[0] for line in log.read_bytes()[mark:].splitlines() if b"|LOG:  execute" in line
        )
        first = {connection.recv(12) for connection in clients.connections}
    print(f"{count} answered in {took:.2f} s by {asked[b'milepost lookup']} reads")
    assert first == {b"HTTP/1.1 200"}
    assert 0 < asked[b"milepost lookup"] <= 20 + count // 250


async def test_a_burst_of_requests_is_answered_whole(service: Service, client: httpx.AsyncClient, scale: int):
    """The process is busy for longer than a database may be silent; but the database was there all the time."""
    id = await start(client, "burst", ["receive", "go"], ["set", "k", "v"], ["receive", "go"])
    count = AT_ONCE * scale // 4
    requests: dict[str, tuple[str, str, Any, int]] = {
        "starts": ("POST", "/workflows", {"name": "echo", "input": 1}, 201),
        "messages": ("POST", f"/workflows/{id}/messages", {"topic": "burst", "payload": 1}, 201),
        "reads": ("GET", f"/workflows/{id}", None, 200),
        "polls": ("GET", f"/workflows/{id}/events/k?timeout=1", None, 202),
        "pages": ("GET", f"/workflows/{id}/steps", None, 200),
    }
    for name, (method, target, body, expected) in requests.items():
        async with wires(service.url, count) as clients:

            async def ask(wire: Wire) -> int:
                return (await wire.ask(method, target, body)).status  # noqa: B023

            began = time.monotonic()
            statuses = Counter(await asyncio.gather(*map(ask, clients)))
        print(f"{count} {name} at once: {time.monotonic() - began:.2f} s")
        assert statuses == {expected: count}, name


async def test_slow_and_silent_connections_are_closed_and_hinder_nobody(service: Service, client: httpx.AsyncClient):
    """Half a head, nothing at all, and a body that comes by the byte."""
    body = (
        b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    host, port = "127.0.0.1", int(service.url.rpartition(":")[2])
    beginnings = [b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half"] * 200 + [b""] * 50 + [body] * 50

    async def linger(beginning: bytes) -> float:
        reader, writer = await asyncio.open_connection(host, port)
        began = time.monotonic()
        writer.write(beginning)
        ended = asyncio.ensure_future(reader.read())
        try:
            while not (await asyncio.wait((ended,), timeout=1))[0]:
                if beginning is body:
                    writer.write(b" ")
            return time.monotonic() - began
        finally:
            ended.cancel()
            writer.close()

    slow = [asyncio.ensure_future(linger(beginning)) for beginning in beginnings]
    meanwhile: list[float] = []
    async with service.async_client() as other:
        while not all(one.done() for one in slow):
            began = time.monotonic()
            assert (await other.get("/healthz")).status_code == 200
            meanwhile.append(time.monotonic() - began)
            await asyncio.wait(slow, timeout=0.1)
    lasted = [one.result() for one in slow]
    print(f"closed after {min(lasted):.1f} to {max(lasted):.1f} s; others answered in {max(meanwhile) * 1000:.0f} ms")
    assert max(lasted) < 15
    assert min(lasted) > 8
    assert max(meanwhile) < 2


async def test_heads_that_are_too_large_are_refused(service: Service):
    for head in (b"X: " + b"y" * 102_400 + b"\r\n", b"".join(b"X-%d: y\r\n" % n for n in range(5_000))):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")
        try:
            answer = await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:  # closed while there was more to read
            continue
        finally:
            writer.close()
        assert not answer or answer.startswith(b"HTTP/1.1 431 ")
