"""The service as a process: how it starts, stops, and comes back."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support.databases import Databases
from tests.support.ports import free_port
from tests.support.service import ROOT, Service, plain
from tests.support.waiting import eventually_sync

WORKFLOWS = '''
import asyncio
from app import Context, workflow

@workflow
async def greeting(ctx: Context, name: str) -> str:
    """Greets, once it is told to."""
    await ctx.set_event("asked", name)
    word = await ctx.receive("word", timeout=600)
    return f"{word}, {name}!"

@workflow
async def slow(ctx: Context, seconds: float) -> str:
    async def work() -> str:
        await asyncio.sleep(seconds)
        return "done"

    await ctx.set_event("begun", True)
    return await ctx.step(work)
'''


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "served_workflows.py").write_text(WORKFLOWS)
    return tmp_path


@pytest.fixture
def own(launch: Callable[..., Service], modules: Path) -> Service:
    """A service with the workflows above alone."""
    return launch(modules=modules, EXAMPLES=False, WORKFLOWS="served_workflows")


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command that is to end by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env={**inherited, **{f"MILEPOST_{name}": value for name, value in settings.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def start(service: Service, name: str, id: str, input: object) -> None:
    with service.client() as client:
        started = client.post("/workflows", json={"name": name, "id": id, "input": input})
        assert started.status_code == 201, started.text


def test_it_says_in_three_lines_where_it_serves_where_its_data_are_and_what_to_try(tmp_path: Path):
    with Service(tmp_path, {"DATA_DIR": tmp_path / "data"}) as service:
        lines = plain(service.log).splitlines()
        assert len(lines) == 3
        assert service.url in lines[0]
        assert str(tmp_path / "data") in lines[1]
        assert "curl" in lines[2]
        assert service.terminate() == 0


def test_the_embedded_database_is_found_again_after_a_crash_and_after_a_stop(tmp_path: Path, modules: Path):
    settings = {"DATA_DIR": tmp_path / "data", "EXAMPLES": False, "WORKFLOWS": "served_workflows"}
    with Service(tmp_path, settings, modules=modules) as service, service.client() as client:
        start(service, "greeting", "kept", "Ada")
        assert client.get("/workflows/kept/events/asked").json()["value"] == "Ada"
        service.restart()
        assert client.get("/workflows/kept").json()["status"] in ("RUNNING", "WAITING")
        assert service.terminate() == 0
        service.start()
        sent = client.post("/workflows/kept/messages", json={"topic": "word", "payload": "Hello"})
        assert sent.status_code == 201, sent.text
        assert client.get("/workflows/kept/result?timeout=20").json()["output"] == "Hello, Ada!"


def test_the_embedded_database_may_be_killed_and_the_service_goes_on(tmp_path: Path):
    with Service(tmp_path, {"DATA_DIR": tmp_path / "data"}) as service:
        pid_file = tmp_path / "data" / "postgres" / "pgdata" / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        eventually_sync(lambda: "was started again" in service.log, message=lambda: service.log)
        eventually_sync(service.ready, message=lambda: service.log)
        assert service.terminate() == 0


def test_a_term_signal_answers_what_waits_and_ends_with_0(own: Service):
    start(own, "greeting", "waits", "Ada")
    with socket.create_connection(("127.0.0.1", int(own.url.rpartition(":")[2]))) as poll:
        poll.sendall(b"GET /workflows/waits/result?timeout=60 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with own.client() as client:
            assert client.get("/workflows/waits/events/asked").status_code == 200
        own.signal(signal.SIGTERM)
        poll.settimeout(10)
        answer = b""
        with suppress(ConnectionError):
            while data := poll.recv(65_536):
                answer += data
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"connection: close" in answer.lower()
    assert own.wait() == 0, own.log


def test_a_running_step_gets_time_to_end_before_the_service_does(own: Service):
    start(own, "slow", "step", 2)
    with own.client() as client:
        assert client.get("/workflows/step/events/begun").status_code == 200
    own.signal(signal.SIGTERM)
    # By connections of their own: what idles is closed when the drain begins, perhaps just as a request sets out on it.
    eventually_sync(lambda: httpx.get(f"{own.url}/readyz").status_code == 503)
    refused = httpx.post(f"{own.url}/workflows", json={"name": "slow", "input": 0})
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert own.wait() == 0, own.log
    own.start()
    with own.client() as client:
        steps = client.get("/workflows/step/steps").json()["steps"]
        ended = client.get("/workflows/step/result?timeout=20").json()
    assert [step["output"] for step in steps] == ["done"]
    assert (ended["status"], ended["attempts"]) == ("SUCCEEDED", 1)


def test_a_second_signal_ends_it_at_once_and_loses_nothing(own: Service):
    start(own, "slow", "step", 60)
    with own.client() as client:
        assert client.get("/workflows/step/events/begun").status_code == 200
    own.signal(signal.SIGTERM)
    eventually_sync(lambda: not own.ready(), message="the service went on as if it were not told to stop")
    own.signal(signal.SIGTERM)
    assert own.wait(5) == -signal.SIGTERM
    own.start()
    with own.client() as client:
        assert client.get("/workflows/step").json()["status"] == "RUNNING"


def test_several_services_may_start_at_once_on_an_empty_database(databases: Databases, tmp_path: Path):
    with databases.empty() as url:
        replicas = [Service(tmp_path, {"DATABASE_URL": url, "EXAMPLES": False}) for _ in range(3)]
        try:
            for replica in replicas:
                replica.spawn()
            for replica in replicas:
                eventually_sync(replica.ready, timeout=30, message=lambda: replica.log)  # noqa: B023
                assert replica.terminate() == 0
        finally:
            for replica in replicas:
                if replica.process.poll() is None:
                    replica.kill()


def test_a_database_that_is_away_at_the_start_is_waited_for(databases: Databases, template: str, tmp_path: Path):
    """It does not exist at first, which to the service is as away as can be."""
    name = "milepost_late"
    service = Service(tmp_path, {"DATABASE_URL": databases.url(name), "EXAMPLES": False}).spawn()
    try:
        eventually_sync(lambda: service.log.count("waiting for the database") >= 2)
        databases.run("create database {} template {}", name, template)
        eventually_sync(service.ready)
        assert service.terminate() == 0
    finally:
        if service.process.poll() is None:
            service.kill()
        databases.run("drop database if exists {} with (force)", name)


def test_migrate_brings_the_schema_up_and_says_where_it_is(empty_database_url: str):
    # An address that would not be served without keys is no reason to refuse what serves nothing.
    done = run("migrate", DATABASE_URL=empty_database_url, HOST="0.0.0.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The database is at revision 0")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("select from workflows")


def test_workflows_lists_what_would_be_served():
    done = run("workflows", EXAMPLES="true")
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("checkout 1") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"PROT": "1"}, "MILEPOST_PROT is no setting of Milepost; did you mean MILEPOST_PORT?"),
        ({"PORT": "eighty"}, "MILEPOST_PORT"),
        ({"EMBEDDED": "false"}, "MILEPOST_DATABASE_URL must be set"),
        ({"HOST": "0.0.0.0"}, "MILEPOST_ALLOW_ANONYMOUS=true"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(settings: dict[str, str], told: str):
    done = run("serve", **settings)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_module_that_can_not_be_imported_stops_the_start_with_one_line():
    done = run("serve", WORKFLOWS="no.such.module")
    assert done.returncode != 0
    assert "no.such.module" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_in_use_stops_the_start_with_one_line():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = run("serve", PORT=str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} can't be served" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_of_another_machine_is_told_as_such():
    done = run("serve", HOST="192.0.2.1", ALLOW_ANONYMOUS="true")
    assert done.returncode == 1
    assert "Set MILEPOST_HOST to an address of this machine" in done.stderr


def test_help_is_there_without_a_database_and_without_settings():
    done = run("--help", PORT="wrong")
    assert done.returncode == 0
    assert "serve" in done.stdout


def test_a_stranger_is_not_told_which_software_serves(service: Service):
    assert "server" not in httpx.get(f"{service.url}/healthz", trust_env=False).headers
