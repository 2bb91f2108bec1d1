"""compose.yaml is run by Docker Compose, with podman for an engine."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.image.engine import PODMAN, ROOT, podman
from tests.image.test_container import check_out
from tests.support import keys
from tests.support.guides import script
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, eventually_sync

pytestmark = pytest.mark.apart

COMPOSE = ROOT / "build" / "image" / "tools" / "bin" / "docker-compose"
PROJECT = "milepost-test-compose"
PORT = """
services:
  proxy:
    ports: !override
      - "127.0.0.1:{port}:8000"
"""
WORKFLOW = '''
from app import Context, workflow


@workflow
async def approve(ctx: Context, text: str) -> str:
    """Is in a folder that was mounted."""
    return text.upper()
'''


@contextmanager
def api(folder: Path) -> Iterator[str]:
    """Podman's, which is also Docker's."""
    socket = folder / "podman.sock"
    address = f"unix://{socket}"
    serving = subprocess.Popen([PODMAN, "system", "service", "--time=0", address], stderr=subprocess.DEVNULL)
    try:
        eventually_sync(socket.exists, timeout=30)
        yield address
    finally:
        serving.terminate()
        serving.wait()


@contextmanager
def checked() -> Iterator[None]:
    """Health checks are made by timers of systemd, which is not on every machine: here they are made by a thread."""
    over = threading.Event()

    def check() -> None:
        while not over.wait(2):
            listed = podman("ps", "--quiet", f"--filter=label=com.docker.compose.project={PROJECT}", check=False)
            for name in listed.stdout.split():
                podman("healthcheck", "run", name, check=False)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Docker Compose in a folder with compose.yaml, and what the guide puts beside it."""
    (tmp_path / "docs" / "operations").mkdir(parents=True)
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    shutil.copy(ROOT / "docs" / "operations" / "haproxy.cfg", tmp_path / "docs" / "operations")
    files = ["--file=compose.yaml"]

    with api(tmp_path) as address, checked():

        def compose(*arguments: str, override: str | None = None) -> str:
            if override is not None:
                files.append(f"--file=override-{len(files)}.yaml")
                (tmp_path / files[-1].removeprefix("--file=")).write_text(override)
                return ""
            done = subprocess.run(
                [COMPOSE, "--project-name", PROJECT, *files, *arguments],
                cwd=tmp_path,
                env={"DOCKER_HOST": address, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=300 * PATIENCE,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        try:
            yield compose
        finally:
            compose("down", "--volumes", "--timeout=1")


def test_compose_has_two_replicas_behind_one_address_with_keys_and_a_workflow_of_ones_own(compose, tmp_path):
    port = free_port()
    compose(override=PORT.format(port=port))
    with script("docs/operations/README.md", only="yaml") as blocks:
        for block in blocks.rest("yaml"):
            compose(override=block.text)
    for folder in ("workflows", "keys"):
        (tmp_path / folder).mkdir(mode=0o755)
    (tmp_path / "workflows" / "approval.py").write_text(WORKFLOW)
    secret = keys.issue(tmp_path / "keys" / "keys", shop="read,write")["shop"]
    tmp_path.chmod(0o755)

    compose("up", "--detach", "--no-build", "--pull=never")

    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=70, trust_env=False) as stranger:
        eventually_sync(lambda: answers(stranger), timeout=60, message=lambda: compose("logs"))
        assert stranger.get("/workflows").status_code == 401
    with httpx.Client(
        base_url=url, timeout=70, trust_env=False, headers={"Authorization": f"Bearer {secret}"}
    ) as client:
        assert check_out(client, "order-1")["status"] == "shipped"
        approved = client.post("/workflows", json={"name": "approve", "id": "a", "input": "yes"})
        assert approved.is_success
        assert client.get("/workflows/a/result?timeout=25").json()["output"] == "YES"

        compose("stop", "--timeout=40", "milepost")
        states = compose("ps", "--all", "--format", "{{.Service}} {{.ExitCode}}").splitlines()
        assert sorted(state for state in states if state.startswith("milepost")) == ["milepost 0", "milepost 0"]
