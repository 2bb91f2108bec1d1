"""Replicas that differ: some take requests only, some run workflows only, some have other versions of them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.cluster import Cluster, cluster
from tests.support.service import Service
from tests.support.waiting import eventually_sync

BEAT = 2.0
"""So long that what comes by a heartbeat is told from what comes by a hint."""
PROMPT = 1.0
SHOP = """
import asyncio
import os

from app import Context, workflow

def named(version):
    @workflow(name="shop", version=version)
    async def shop(ctx: Context) -> str:
        async def ran() -> str:
            return f"{version} {os.getpid()}"

        async def works() -> None:
            await asyncio.sleep(2)

        await ctx.set_event("begun", version)
        await ctx.step(works)
        await ctx.receive("go")
        return await ctx.step(ran)
"""
SLOW = """
import asyncio
from app import Context, workflow

@workflow(timeout=2)
async def endless(ctx: Context) -> None:
    async def sleep() -> None:
        await asyncio.sleep(600)

    await ctx.set_event("begun", True)
    await ctx.step(sleep)
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "shop_named.py").write_text(SHOP)
    (folder / "shop_1.py").write_text('import shop_named\nshop_named.named("1")\n')
    (folder / "shop_2.py").write_text('import shop_named\nshop_named.named("2")\n')
    (folder / "slow.py").write_text(SLOW)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, modules: Path) -> Iterator[Cluster]:
    settings = {"BEAT": BEAT, "TIME_TO_LIVE": 3 * BEAT, "LINGER": 0.2, "CONCURRENCY": 3, "GRACE": 1}
    with cluster(tmp_path_factory.mktemp("site"), settings, modules=modules) as site:
        yield site


COMMON = "tests.support.workflows,slow"


@pytest.fixture(scope="module")
def api(site: Cluster) -> Service:
    (api,) = site.replicas(1, ROLE="api", WORKFLOWS=f"{COMMON},shop_1,shop_2")
    return api


@pytest.fixture(scope="module")
def alone(api: Service) -> dict[str, Any]:
    """What became of a start while there was nobody to run it."""
    with api.client() as client:
        started = client.post(
            "/workflows?wait_for_result=true&timeout=0.5", json={"name": "echo", "id": "a", "input": 1}
        )
        assert started.status_code == 201
        child = [["child", "early.child", [["return", 3]]], ["receive", "go"], ["return", 2]]
        client.post("/workflows", json={"name": "scripted", "id": "early", "input": child})
        cancelled = client.post("/workflows", json={"name": "echo", "id": "cancelled", "input": 1})
        assert cancelled.json()["status"] == "QUEUED"
        assert client.post("/workflows/cancelled/cancel").json()["status"] == "CANCELLED"
        assert client.get("/readyz").status_code == 200
    assert "rror" not in api.log
    return dict(started.json())


@pytest.fixture(scope="module")
def worker(site: Cluster, api: Service, alone: dict[str, Any]) -> Service:
    """It begins when there is something to do already."""
    (worker,) = site.replicas(1, ROLE="worker", WORKFLOWS=COMMON, PUBLIC_URL=api.url)
    return worker


@pytest.fixture
def client(api: Service, worker: Service) -> Iterator[httpx.Client]:
    with api.client() as client:
        yield client


def started(client: httpx.Client, id: str, *script: list[Any], query: str = "", **more: Any) -> dict[str, Any]:
    response = client.post(f"/workflows{query}", json={"name": "scripted", "id": id, "input": script, **more})
    assert response.status_code == 201, response.text
    return dict(response.json())


def becomes(client: httpx.Client, id: str, status: str) -> None:
    eventually_sync(lambda: client.get(f"/workflows/{id}").json()["status"] == status, 15, lambda: f"{id}: {status}")


def seconds(client: httpx.Client, id: str, key: str = "k") -> float:
    """How long it takes until an event is there."""
    begun = time.monotonic()
    answer = client.get(f"/workflows/{id}/events/{key}?timeout=20")
    assert answer.status_code == 200, answer.text
    return time.monotonic() - begun


def test_with_nobody_to_run_it_a_workflow_is_queued_and_runs_when_somebody_is_there(
    alone: dict[str, Any], client: httpx.Client
):
    assert (alone["status"], alone["started_at"], alone["attempts"]) == ("QUEUED", None, 1)
    ended = client.get("/workflows/a/result?timeout=20").json()
    assert (ended["status"], ended["output"], ended["attempts"]) == ("SUCCEEDED", 1, 1)
    assert client.get("/workflows/early.child/result?timeout=20").json()["output"] == 3
    assert client.get("/workflows/cancelled").json()["status"] == "CANCELLED"


def test_a_worker_answers_probes_and_nothing_else(worker: Service, client: httpx.Client):
    with worker.client() as asked:
        assert asked.get("/healthz").status_code == 200
        assert asked.get("/readyz").status_code == 200
        assert asked.get("/problems/draining").status_code == 200
        for method, path in (
            ("POST", "/workflows"),
            ("GET", "/workflows/a"),
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
        ):
            refused = asked.request(method, path)
            assert (refused.status_code, refused.json()["code"]) == (404, "route-not-found")
    assert "runs workflows" in worker.log


def test_what_is_started_where_nothing_runs_runs_at_once_elsewhere(
    site: Cluster, worker: Service, client: httpx.Client
):
    for n in range(5):
        began = time.monotonic()
        answer = started(client, f"prompt-{n}", ["set", "k", n], query="?wait_for=k&timeout=20")
        assert answer["events"]["k"]["value"] == n
        assert time.monotonic() - began < PROMPT
    assert {row[0] for row in site.ask("select executor_id from workflows where id like 'prompt-%'")} == {
        site.executor(worker)
    }


def test_what_becomes_due_by_a_request_goes_on_at_once_elsewhere(client: httpx.Client):
    """A message, a callback, a resume, the end of a delay: each is told where no workflow runs."""
    started(client, "by-message", ["receive", "go"], ["set", "k", 1])
    started(client, "by-callback", ["callback", "paid", "url"], ["receive", "paid"], ["set", "k", 1])
    for id in ("by-message", "by-callback"):
        becomes(client, id, "WAITING")
    assert client.post("/workflows/by-message/messages", json={"topic": "go", "payload": None}).status_code == 201
    assert seconds(client, "by-message") < PROMPT
    url = client.get("/workflows/by-callback/events/url").json()["value"]
    assert url.startswith(str(client.base_url).rstrip("/"))
    assert client.post(url, json={}).is_success
    assert seconds(client, "by-callback") < PROMPT

    started(client, "by-resume", ["set", "k", 1], delay=600)
    assert client.post("/workflows/by-resume/cancel").status_code == 200
    assert client.post("/workflows/by-resume/resume").json()["status"] == "QUEUED"
    assert seconds(client, "by-resume") < PROMPT
    started(client, "by-haste", ["set", "k", 1], delay=600)
    assert client.post("/workflows/by-haste/resume").status_code == 200
    assert seconds(client, "by-haste") < PROMPT
    started(client, "by-delay", ["set", "k", 1], delay=0.3)
    assert 0.2 < seconds(client, "by-delay") < 0.3 + PROMPT
    started(client, "by-timer", ["sleep", 0.8], ["set", "k", 1])
    assert seconds(client, "by-timer") < 0.8 + PROMPT


def test_what_runs_elsewhere_is_cancelled_and_ends_when_its_time_is_over(
    site: Cluster, worker: Service, client: httpx.Client
):
    for id in ("cut", "late"):
        assert client.post("/workflows", json={"name": "endless", "id": id}).status_code == 201
        assert seconds(client, id, "begun") < PROMPT
    assert client.post("/workflows/cut/cancel").json()["status"] == "CANCELLED"
    assert client.get("/workflows/late/result?timeout=20").json()["status"] == "TIMED_OUT"
    # Their places are free again: it has three.
    assert [
        started(client, f"after-{n}", ["set", "k", n], query="?wait_for=k")["events"]["k"]["value"] for n in range(3)
    ]


@pytest.fixture(scope="module")
def old(site: Cluster, worker: Service) -> Service:
    """It has the first version of the shop alone, and room for one workflow."""
    (old,) = site.replicas(1, WORKFLOWS=f"{COMMON},shop_1", CONCURRENCY=1)
    return old


def test_what_one_replica_has_no_room_for_begins_at_once_at_another(old: Service, client: httpx.Client):
    with old.client() as crowded:
        assert crowded.post("/workflows", json={"name": "endless", "id": "full"}).json()["status"] == "RUNNING"
        begun = time.monotonic()
        answer = started(crowded, "beyond", ["set", "k", 1], query="?wait_for=k&timeout=20")
        assert answer["events"]["k"]["value"] == 1
        assert time.monotonic() - begun < PROMPT
        assert crowded.get("/workflows/full/result?timeout=20").json()["status"] == "TIMED_OUT"


def test_a_workflow_is_run_only_where_its_version_is_registered(site: Cluster, old: Service, client: httpx.Client):
    """Replicas with the first, with the second, and later with both: none touches what it has not registered."""
    (new,) = site.replicas(1, WORKFLOWS="shop_2")
    with old.client() as asked:
        first = asked.post("/workflows?wait_for=begun", json={"name": "shop", "id": "first"}).json()
    second = client.post("/workflows?wait_for=begun", json={"name": "shop", "id": "second"}).json()
    assert (first["version"], second["version"]) == ("1", "2"), "a start takes the newest that its process knows"
    lost = site.executor(old)
    assert site.ask("select executor_id from workflows where id = 'second'") == [(site.executor(new),)]
    old.kill()
    assert client.post("/workflows/second/messages", json={"topic": "go", "payload": None}).status_code == 201
    assert client.get("/workflows/second/result?timeout=20").json()["output"] == f"2 {new.pid}"
    eventually_sync(lambda: lost not in site.executors(), 20, lambda: "nobody notices a death")
    site.settle()
    assert site.ask("select status, executor_id from workflows where id = 'first'") == [("RUNNING", lost)]

    (both,) = site.replicas(1, WORKFLOWS="shop_1,shop_2")
    eventually_sync(
        lambda: site.ask("select executor_id from workflows where id = 'first'") == [(site.executor(both),)], 20
    )
    assert client.post("/workflows/first/messages", json={"topic": "go", "payload": None}).status_code == 201
    ended = client.get("/workflows/first/result?timeout=20").json()
    assert (ended["output"], ended["attempts"]) == (f"1 {both.pid}", 2)
    # What one is in the middle of when it is stopped, another one is called for.
    with both.client() as asked:
        third = asked.post("/workflows?wait_for=begun", json={"name": "shop", "id": "third"}).json()
    assert third["version"] == "2"
    assert both.terminate() == 0
    stopped_at = time.monotonic()
    eventually_sync(
        lambda: site.ask("select executor_id from workflows where id = 'third'") == [(site.executor(new),)], 20
    )
    assert time.monotonic() - stopped_at < PROMPT
