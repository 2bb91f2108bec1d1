"""Several processes under one: they share an address, and come and go without a client's being turned away."""

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.service import ROOT, Service, plain
from tests.support.waiting import eventually, eventually_sync
from tests.support.wire import wires

WORKFLOWS = '''
import asyncio
import os

from app import Context, workflow

@workflow
async def where(ctx: Context) -> int:
    """Tells the process that runs it, which is the one that took the request."""
    async def pid() -> int:
        return os.getpid()

    return await ctx.step(pid)

@workflow
async def wait(ctx: Context) -> str:
    await ctx.set_event("begun", True)
    return await ctx.receive("word")
'''
COUNT = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "served_by_several.py").write_text(WORKFLOWS)
    (folder / "fails_in_a_child.py").write_text(
        'import sys\nif "--place" in sys.argv:\n    raise RuntimeError("not here")\n'
    )
    return folder


def several(folder: Path, **settings: object) -> Service:
    given = {"PROCESSES": COUNT, "DATA_DIR": folder / "data", "EXAMPLES": False, "WORKFLOWS": "served_by_several"}
    return Service(folder, given | settings, modules=folder)


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Service]:
    service = several(folder)
    try:
        yield service.start(timeout=90)
    finally:
        if service.runs():
            service.kill()


@pytest.fixture
def service(shared: Service) -> Service:
    """It runs, with all of its processes."""
    if not shared.runs():
        shared.start(timeout=90)
    serving(shared)
    return shared


def children(service: Service) -> set[int]:
    """The processes that serve."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return {int(pid) for pid, parent, *args in rows if int(parent) == service.pid and "--place" in "".join(args)}


def serving(service: Service) -> set[int]:
    """Its processes, when all of them take requests."""

    def answering() -> bool:
        with service.client() as client:
            found.add(client.post("/workflows?wait_for_result=true", json={"name": "where"}).json()["output"])
        return found >= children(service) and len(children(service)) == COUNT

    found: set[int] = set()
    eventually_sync(answering, 30, lambda: service.log)
    return children(service)


async def askers(service: Service, connections: int) -> Counter[int]:
    """Which processes answer on so many connections that are opened at once, and on how many each."""

    async def ask() -> int:
        async with wires(service.url, 1) as (wire,):
            answer = await wire.ask("POST", "/workflows?wait_for_result=true", {"name": "where"})
            return int(answer.json["output"])

    return Counter(await asyncio.gather(*(ask() for _ in range(connections))))


def gone(pids: set[int]) -> bool:
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        return False
    return True


def test_it_says_once_that_it_serves_when_all_do(shared: Service):
    serving(shared)
    eventually_sync(lambda: shared.log)
    lines = plain(shared.log).splitlines()
    assert len(lines) == 3, shared.log
    assert f"as process {shared.pid}, which has {COUNT} under it" in lines[0]
    assert len(children(shared)) == COUNT


async def test_each_process_gets_its_share_of_connections_that_come_at_once(service: Service):
    shares = await askers(service, 32)
    assert shares.keys() == children(service)
    assert min(shares.values()) >= 4, shares


async def test_a_killed_process_is_started_again_and_nobody_is_turned_away(service: Service):
    (killed, other) = serving(service)
    asked, refused, over = Counter[int](), list[str](), threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                # The request on which it dies can't be answered; new connections are taken by the other one.
                asked[httpx.get(f"{service.url}/healthz", timeout=20, trust_env=False).status_code] += 1
            except httpx.TransportError as error:
                refused.append(repr(error))

    customers = [threading.Thread(target=ask) for _ in range(3)]
    for customer in customers:
        customer.start()
    try:
        await eventually(lambda: asked[200] > 20)
        os.kill(killed, signal.SIGSTOP)
        before = asked[200]
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: len(children(service) - {killed}) == COUNT, 20, lambda: service.log)
        await eventually(lambda: asked[200] > before + 20)
    finally:
        over.set()
        for customer in customers:
            customer.join()
    assert not [error for error in refused if "Refused" in error], refused
    assert len(refused) <= len(customers), refused
    assert asked.keys() == {200}
    told = [line for line in plain(service.log).splitlines() if "is started again" in line]
    assert len(told) == 1
    assert f"pid={killed}" in told[0]
    assert "killed by SIGKILL" in told[0]
    assert other in serving(service)


def test_a_term_signal_stops_them_all_when_all_who_wait_are_answered(service: Service):
    pids = serving(service)
    with service.client() as client:
        client.post("/workflows", json={"name": "wait", "id": "waits"})
        assert client.get("/workflows/waits/events/begun").status_code == 200
    address = httpx.URL(service.url)
    polls = [http.client.HTTPConnection(address.host, address.port, timeout=60) for _ in range(8)]
    for poll in polls:
        poll.request("GET", "/workflows/waits/result?timeout=600")
    service.signal(signal.SIGTERM)
    assert service.wait(30) == 0, service.log
    assert [poll.getresponse().status for poll in polls] == [202] * len(polls)
    for poll in polls:
        poll.close()
    assert gone(pids)
    assert "Traceback" not in service.log


def test_a_killed_parent_leaves_no_process_behind_and_everything_is_there_again(service: Service):
    pids = serving(service)
    with service.client() as client:
        client.post("/workflows", json={"name": "wait", "id": "kept"})
        assert client.get("/workflows/kept/events/begun").status_code == 200
    service.kill()
    eventually_sync(lambda: gone(pids), 20, lambda: service.log)
    service.start(timeout=90)
    with service.client() as client:
        assert client.post("/workflows/kept/messages", json={"topic": "word", "payload": "Hello"}).status_code == 201
        assert client.get("/workflows/kept/result?timeout=20").json()["output"] == "Hello"


@pytest.mark.parametrize(
    ("module", "told"),
    [("no.such.module", "no.such.module"), ("fails_in_a_child", "not here")],
    ids=["any", "in a child"],
)
def test_what_none_of_them_could_do_stops_the_start_with_one_line(
    folder: Path, database_url: str, module: str, told: str
):
    settings = {"PROCESSES": str(COUNT), "DATABASE_URL": database_url, "WORKFLOWS": module, "PORT": "0"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        cwd=ROOT,
        env={**inherited, **{f"MILEPOST_{k}": v for k, v in settings.items()}, "PYTHONPATH": f"{ROOT}:{folder}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""
