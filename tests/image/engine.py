"""Podman, with the store that `make image-test` has built the images in."""

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
PODMAN = ROOT / "build" / "image" / "podman"
IMAGE = "milepost"
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
"""Nothing can be written anywhere, and nothing may be done that not everybody may."""


def podman(*arguments: object, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    assert PODMAN.exists(), "there is no image: `make image-test` builds it"
    done = subprocess.run(
        [PODMAN, *map(str, arguments)], capture_output=True, text=True, timeout=timeout * PATIENCE, check=False
    )
    assert not check or done.returncode == 0, f"podman {arguments[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class Container:
    """`podman run IMAGE COMMAND` with these settings, reached by a port of this machine; gone with its `with` block."""

    def __init__(
        self,
        command: tuple[str, ...] = ("serve",),
        *,
        settings: Mapping[str, object],
        options: tuple[str, ...] = (),
        image: str = IMAGE,
    ) -> None:
        self._command, self._options, self._image = command, options, image
        self._settings = {f"MILEPOST_{name}": value for name, value in settings.items()}
        self._port = free_port()
        self.id = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=70, trust_env=False)

    @property
    def log(self) -> str:
        """What it has written to both of its outputs."""
        done = podman("logs", self.id)
        return done.stdout + "".join(line for line in done.stderr.splitlines(True) if "syslog" not in line)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        state = json.loads(podman("inspect", self.id, "--format", "{{json .State}}").stdout)
        return None if state["Running"] else state["ExitCode"]

    def healthy(self) -> bool:
        """What the image's HEALTHCHECK says."""
        return podman("healthcheck", "run", self.id, check=False).returncode == 0

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def until_ready(self, timeout: float = 60) -> Self:
        deadline = time.monotonic() + timeout * PATIENCE
        while not self.ready():
            assert self.exit_code is None, f"it has ended with {self.exit_code}:\n{self.log}"
            assert time.monotonic() < deadline, f"it was not ready after {timeout:g} s:\n{self.log}"
            time.sleep(0.05)
        return self

    def run(self, program: str) -> str:
        """What a Python program prints that is run in the container."""
        return podman("exec", self.id, "python", "-c", program).stdout

    def stop(self, grace: int = 30) -> int:
        """SIGTERM, and SIGKILL after the grace; the exit code."""
        podman("stop", "--time", grace, self.id)
        code = self.exit_code
        assert code is not None
        return code

    def __enter__(self) -> Self:
        settings = [f"--env={name}={value}" for name, value in self._settings.items()]
        published = f"--publish=127.0.0.1:{self._port}:8000"
        self.id = podman(
            "run", "--detach", *HARDENED, published, *settings, *self._options, self._image, *self._command
        ).stdout.split()[-1]
        return self

    def __exit__(self, *_: object) -> None:
        podman("rm", "--force", "--time", 0, "--volumes", self.id)
