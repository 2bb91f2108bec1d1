"""API keys of real processes: made on the command line, read again while requests come, refused at the start."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from app.keys import Keys, is_secret
from tests.support import guides, shell
from tests.support.guides import script
from tests.support.keys import issue, replace
from tests.support.service import ROOT, Service
from tests.support.waiting import eventually_sync
from tests.system.test_serve import run

CONNECTIONS = 24
"""So many are opened that each of two processes has some of them."""


def ask(service: Service, secret: str) -> int:
    """By a connection of its own, which any of the processes may take."""
    with closing(HTTPConnection(service.url.removeprefix("http://"), timeout=20)) as connection:
        connection.request("GET", "/definitions", headers={"Authorization": f"Bearer {secret}"})
        return connection.getresponse().status


def all_say(service: Service, secret: str, status: int) -> bool:
    return all(ask(service, secret) == status for _ in range(CONNECTIONS))


@pytest.fixture
def busy() -> Iterator[Callable[[Service, str], list[int]]]:
    """Ask all the time with a key; what was answered is in the list."""
    done = Event()
    with ThreadPoolExecutor(4) as threads:

        def busy(service: Service, secret: str) -> list[int]:
            answered: list[int] = []

            def keep_on() -> None:
                while not done.is_set():
                    answered.append(ask(service, secret))

            threads.submit(keep_on)
            return answered

        yield busy
        done.set()


@pytest.fixture
def several(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """One of two processes, which are given the time that both of them take."""
    settings = {"DATABASE_URL": database_url, "API_KEYS_FILE": tmp_path / "keys", "PROCESSES": 2, "EXAMPLES": False}
    service = Service(tmp_path, settings)
    try:
        yield service
    finally:
        if service.runs():
            service.kill()


def test_keys_come_and_go_under_load_in_every_process(several: Service, busy, tmp_path: Path):
    file = tmp_path / "keys"
    old = issue(file, stays="read", leaves="read")
    stays = file.read_text().splitlines()[0]
    service = several.start(timeout=90)
    answered = busy(service, old["stays"])
    assert all_say(service, old["leaves"], 200)

    new = issue(file, stays, comes="read")
    eventually_sync(lambda: all_say(service, new["comes"], 200), 30, lambda: service.log)
    eventually_sync(lambda: all_say(service, old["leaves"], 401), 30, lambda: service.log)

    replace(file, stays, f"broken {old['leaves']}")
    eventually_sync(lambda: service.log.count("can't be read again") == 2, 30, lambda: service.log)
    assert "line 2: a line is a name" in service.log
    assert all_say(service, new["comes"], 200)
    assert all_say(service, old["leaves"], 401)

    assert len(answered) > CONNECTIONS
    assert set(answered) == {200}
    assert service.terminate() == 0
    assert "mp_" not in service.log


def test_a_mounted_secret_is_read_again_when_its_link_is_turned(launch, tmp_path: Path):
    """As Kubernetes does it: the file is a link, through another link, which is replaced."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    before, after = (issue(tmp_path / folder / "keys", shop="read")["shop"] for folder in ("one", "two"))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "keys").symlink_to("data/keys")
    service = launch(API_KEYS_FILE=tmp_path / "keys", EXAMPLES=False)
    assert ask(service, before) == 200

    (tmp_path / "turned").symlink_to("two")
    (tmp_path / "turned").replace(tmp_path / "data")
    eventually_sync(lambda: ask(service, after) == 200, 30)
    assert ask(service, before) == 401


def test_a_checkout_needs_a_key_of_the_shop_and_none_of_the_buyer(launch, tmp_path: Path):
    shop = issue(tmp_path / "keys", shop="write")["shop"]
    service = launch(API_KEYS_FILE=tmp_path / "keys")
    service.key = shop
    with service.client() as client:
        started = client.post(
            "/workflows?wait_for=payment_url&timeout=20", json={"name": "checkout", "input": {"sku": "A1"}}
        ).json()
        paid = httpx.post(f"{started['events']['payment_url']['value']}/pay", trust_env=False, timeout=20)
        assert paid.status_code == 303, paid.text
        ended = client.get(f"/workflows/{started['id']}/result?timeout=20").json()
    assert ended["output"]["status"] == "shipped"


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file or directory"),
        ("# nobody\n", "has no API key: make one with python -m app keys new"),
        ("one read 0123\n", "line 1: the SHA-256 of a secret has 64 hexadecimal digits"),
    ],
)
def test_a_file_that_can_not_be_used_stops_the_start_with_one_line(
    tmp_path: Path, text: str | None, told: str, processes: str
):
    if text is not None:
        (tmp_path / "keys").write_text(text)
    folder = tmp_path / "data"
    done = run("serve", API_KEYS_FILE=str(tmp_path / "keys"), PROCESSES=processes, DATA_DIR=str(folder))
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "0123" not in done.stderr
    assert not folder.exists()


def test_an_address_beyond_loopback_is_served_when_there_are_keys(launch, tmp_path: Path):
    shop = issue(tmp_path / "keys", shop="read")["shop"]
    service = launch(API_KEYS_FILE=tmp_path / "keys", HOST="0.0.0.0", EXAMPLES=False)
    assert ask(service, shop) == 200
    assert httpx.get(f"{service.url}/definitions", trust_env=False).status_code == 401
    assert "callbacks fail until MILEPOST_PUBLIC_URL" in service.log


def test_a_key_is_made_before_there_are_any_settings(tmp_path: Path):
    """Also where those of the service are wrong, or are such as want keys."""
    file = tmp_path / "keys"
    done = run("keys", "new", "shop", "--scope", "read,write", "--file", str(file), HOST="0.0.0.0", EMBEDDED="false")
    assert done.returncode == 0, done.stderr
    secret = done.stdout.removesuffix("\n").encode()
    assert is_secret(secret)
    owner = Keys(file).owner(secret)
    assert owner
    assert (owner.name, sorted(owner.scopes)) == ("shop", ["read", "write"])

    again = run("keys", "new", "shop", "--scope", "read", "--file", str(file))
    assert (again.returncode, again.stdout) == (2, "")
    assert "has a key of the name shop already" in again.stderr

    shown = run("keys", "new", "other", "--scope", "admin")
    file.write_text(shown.stdout)
    (found,) = re.findall(r"mp_\S+", shown.stderr)
    assert Keys(file).owner(found.encode())
    assert "mp_" not in shown.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["new"], ["new", "shop"], ["new", "a/b", "--scope", "read"], ["new", "shop", "--scope", "all"]]
)
def test_a_key_that_can_not_be_made_is_told_and_not_made(arguments: list[str]):
    done = run("keys", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m app keys" in done.stderr


def test_whoever_follows_the_page_about_access_gets_in(database_url: str, tmp_path: Path):
    environment = {"PYTHONPATH": str(ROOT), "MILEPOST_DATABASE_URL": database_url}
    here: dict[str, Any] = {"cwd": tmp_path, "env": environment}
    with script("docs/operations/access.md") as blocks:
        secret = shell.run(blocks.take("sh"), **here).strip()
        with shell.serving(blocks.take("sh"), tmp_path, before="", **here) as service:
            ask = blocks.take("sh")
            listed = shell.run(ask, address=service.url, env={"KEY": secret})
            assert shell.answers(listed) == [{"workflows": [], "next_cursor": None}]
            refused = shell.run(ask, address=service.url, env={"KEY": "mp_"})
            assert shell.answers(refused)[0]["code"] == "unauthenticated"


def test_the_file_that_the_page_about_access_shows_is_one(tmp_path: Path):
    (shown,) = (block for block in guides.read("docs/operations/access.md") if block.language == "text")
    (tmp_path / "keys").write_text(shown.text)
    assert len(Keys(tmp_path / "keys")) == 2
