"""What the guides show in a browser, in a real one: Debian's Chromium without a window."""

import json
import shutil
from pathlib import Path

import httpx
import pytest

from tests.guides.proxy import proxy
from tests.support import guides, shell
from tests.support.guides import Block, script
from tests.support.ports import free_port
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.apart

SCRIPTS = Path(__file__).parent / "browser"


def node(command: str) -> Block:
    return Block("test_browser.py", 1, "sh", (), command)


@pytest.fixture
def stage(desk: Path) -> Path:
    """The desk, with what drives the browser."""
    assert shutil.which("chromium"), "chromium is missing: `make test-guides` installs it"
    shutil.copytree(SCRIPTS, desk / "browser")
    return desk


def test_a_page_follows_an_order_through_cuts_and_refusals(stage, guarded):
    with script("docs/clients.md", "In the browser") as blocks:
        backend, page, serve = blocks.take("ts"), blocks.take("html"), blocks.take("sh")
    (stage / "backend.mts").write_text(backend.text)
    (stage / "page.html").write_text(page.text)
    service, secret = guarded
    owner = {"Authorization": f"Bearer {secret}"}
    with service.client() as client:
        client.post("/workflows", json={"name": "checkout", "id": "order-1", "input": {"sku": "A1"}}, headers=owner)

    port = free_port()
    with proxy(service.url, ["503", "cut", "pass"]) as seen, (stage / "seen").open("w") as output:
        env = {"API_URL": seen.url, "API_KEY": secret, "PORT": str(port), "npm_config_loglevel": "error"}
        serving = shell.start(serve, output, cwd=stage, env=env)
        eventually_sync(lambda: answers(port), 60, "the backend serves")
        watching = shell.start(
            node(f"node browser/watch.mjs 'http://127.0.0.1:{port}/?order=order-1'"), output, cwd=stage
        )
        try:
            (pay,) = eventually_sync(lambda: told(stage, "Pay at "), 90, (stage / "seen").read_text)
            eventually_sync(lambda: seen.outcomes("/stream").count("cut") > 1, 30, "a silent stream is cut")
            assert httpx.post(f"{pay}/pay", trust_env=False).is_redirect
            assert watching.wait(120) == 0, (stage / "seen").read_text()
        finally:
            shell.end(watching)
            shell.end(serving)

    with service.client() as client:
        history = client.get("/workflows/order-1/history?key=status", headers=owner).json()["events"]
    (shown,) = told(stage, "Status ")
    assert json.loads(shown) == [event["value"] for event in history], "all that it was, in order and once"
    assert seen.outcomes("/stream")[:2] == ["503", "cut"]


def test_the_picture_of_the_readme_can_be_drawn(stage):
    (drawn,) = (block for block in guides.read("README.md") if block.language == "mermaid")
    (stage / "picture.mmd").write_text(drawn.text)

    words = shell.run(node("node browser/draw.mjs picture.mmd picture.png"), cwd=stage)

    assert "PostgreSQL" in words
    assert "Syntax error" not in words
    assert (stage / "picture.png").stat().st_size > 1000


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).is_success
    except httpx.TransportError:
        return False


def told(stage: Path, beginning: str) -> list[str]:
    lines = (stage / "seen").read_text().splitlines()
    return [line.removeprefix(beginning) for line in lines if line.startswith(beginning)]
