"""docs/clients.md: each program, run as it stands, before a proxy that loses, cuts and refuses."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.guides.proxy import Proxy, proxy
from tests.support import shell
from tests.support.guides import Block, script
from tests.support.service import Service
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.apart

START = ["lost", "503", "pass"]
PAGE = ["cut", "504", "pass"]


@dataclass
class Program:
    name: str
    text: Block
    command: Block

    def save(self, folder: Path) -> None:
        (folder / self.name).write_text(self.text.text)


def curl() -> Program:
    with script("docs/clients.md", "curl") as blocks:
        return Program("checkout.sh", blocks.take("sh"), blocks.take("sh"))


def python() -> Program:
    with script("docs/clients.md", "Python") as blocks:
        return Program("checkout.py", blocks.take("python"), blocks.take("sh"))


def typescript() -> Program:
    with script("docs/clients.md", "TypeScript") as blocks:
        return Program("checkout.mts", blocks.take("ts"), blocks.take("sh"))


def go() -> Program:
    with script("docs/clients.md", "Go") as blocks:
        return Program("checkout.go", blocks.take("go"), blocks.take("sh"))


def java() -> Program:
    with script("docs/clients.md", "Java") as blocks:
        return Program("Checkout.java", blocks.take("java"), blocks.take("sh"))


PROGRAMS = [curl, python, typescript, go, java]


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.__name__)
def program(request: pytest.FixtureRequest, desk: Path) -> Program:
    program: Program = request.param()
    program.save(desk)
    return program


class Run:
    """A program that is running, and what it has printed."""

    def __init__(self, program: Program, desk: Path, seen: Proxy, secret: str) -> None:
        self._output = (desk / "output").open("w+")
        env = {"API_URL": seen.url, "API_KEY": secret, "GO111MODULE": "off", "npm_config_loglevel": "error"}
        self.process = shell.start(program.command, self._output, cwd=desk, env=env)

    @property
    def lines(self) -> list[str]:
        return Path(self._output.name).read_text().splitlines()

    def page(self) -> str:
        """Where the order is to be paid, as soon as that is printed."""
        found = eventually_sync(lambda: [line for line in self.lines if "Pay at" in line], 120, lambda: str(self.lines))
        return found[0].removeprefix("Pay at ")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shell.end(self.process)
        self._output.close()


def pay(page: str) -> None:
    """Press the button."""
    assert httpx.post(f"{page}/pay", trust_env=False).is_redirect


def test_a_checkout_comes_to_its_end_whatever_breaks(program, desk, guarded):
    service, secret = guarded
    with proxy(service.url, [*START, *PAGE]) as seen, Run(program, desk, seen, secret) as run:
        page = run.page()
        eventually_sync(lambda: "202" in seen.outcomes("/status?"), 30, "a poll comes to the end of its time")
        service.restart()
        eventually_sync(lambda: seen.asked[-1].outcome == "202", 30, "it asks again")
        pay(page)
        assert run.process.wait(60) == 0, run.lines

    assert run.lines[0] == f"Pay at {page}"
    assert run.lines[-2:] == ["shipped", "SUCCEEDED"]
    assert len(run.lines) == len(set(run.lines)), "what was seen is not shown again"
    assert [asked.outcome for asked in seen.asked][:3] == ["lost", "503", "200"]
    assert seen.outcomes("/payment_url?")[:2] == ["cut", "504"]
    assert all(asked.target.endswith("timeout=25") for asked in seen.asked if asked.method == "GET")
    assert _after(seen) == sorted(_after(seen))
    assert _workflows(service, secret) == ["order-1"]


def test_a_checkout_goes_on_in_a_program_that_is_started_again(program, desk, guarded):
    service, secret = guarded
    with proxy(service.url, []) as seen:
        with Run(program, desk, seen, secret) as run:
            page = run.page()
        with Run(program, desk, seen, secret) as run:
            assert run.page() == page
            pay(page)
            assert run.process.wait(60) == 0, run.lines

    assert run.lines[-1] == "SUCCEEDED"
    assert _workflows(service, secret) == ["order-1"]


def test_a_refusal_is_told_and_not_repeated(program, desk, guarded):
    service, secret = guarded
    with proxy(service.url, []) as seen, Run(program, desk, seen, "mp_of-somebody-else") as run:
        assert run.process.wait(60) != 0

    assert "unauthenticated" in "".join(run.lines)
    assert [asked.outcome for asked in seen.asked] == ["401"]
    assert _workflows(service, secret) == []


def test_a_message_with_a_key_is_sent_once(guarded, desk):
    with script("docs/clients.md", "The loop") as blocks:
        send = blocks.take("sh")
    service, secret = guarded
    order = {"name": "checkout", "id": "order-1", "input": {"sku": "A1"}}
    with service.client() as client:
        client.post("/workflows", json=order, headers={"Authorization": f"Bearer {secret}"}).raise_for_status()

    env = {"API_URL": service.url, "API_KEY": secret}
    first, second = (shell.answers(shell.run(send, cwd=desk, env=env)) for _ in range(2))

    assert first == second
    assert first[0]["topic"] == "note"


def test_the_types_of_the_programs_are_right(desk):
    typescript().save(desk)
    with script("docs/clients.md", "In the browser", only="ts") as blocks:
        (desk / "backend.mts").write_text(blocks.take("ts").text)
    options = [
        "--noEmit",
        "--strict",
        "--noImplicitReturns",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--types",
        "node",
    ]

    checked = subprocess.run(
        ["npx", "tsc", *options, "checkout.mts", "backend.mts"], cwd=desk, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout


def _after(seen: Proxy) -> list[int]:
    return [int(found[1]) for asked in seen.asked if (found := re.search(r"after=(\d+)", asked.target))]


def _workflows(service: Service, secret: str) -> list[str]:
    with service.client() as client:
        listed = client.get("/workflows", headers={"Authorization": f"Bearer {secret}"}).json()
        return [workflow["id"] for workflow in listed["workflows"]]
