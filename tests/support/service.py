"""The real service as a process of its own, on a free port, to be asked over HTTP and killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from tests.support import ways
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


class Service:
    """`python -m app serve` with these settings (`DATABASE_URL="…"` for MILEPOST_DATABASE_URL).

    Use it in a `with` block, or stop it by `kill()` or `terminate()`; `start()` after that starts
    it again on the same port and with the same data.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object], *, modules: Path | None = None) -> None:
        self._settings = {"PORT": free_port(), "LOG_LEVEL": "info", "EXAMPLES": "true", **settings}
        self._modules = modules
        self._log_path = folder / f"service-{self._settings['PORT']}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.key = ""
        """The secret of the API key that its clients send."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._settings['PORT']}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process, "the service was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """All that the service has written since its first start."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def client(self, timeout: float = 70.0) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Client(base_url=self.url, timeout=timeout, headers=headers, trust_env=False)

    def async_client(self, timeout: float = 70.0) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        return httpx.AsyncClient(base_url=self.url, timeout=timeout, limits=limits, trust_env=False)

    def spawn(self) -> Self:
        """Start the process and return at once."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def start(self, timeout: float = 30.0) -> Self:
        """Start the process and return when `/readyz` says that it is ready."""
        self.spawn()
        deadline = time.monotonic() + timeout * PATIENCE
        while not self.ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended with {self.process.returncode}:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the service was not ready after {timeout:g} s:\n{self.log}")
            time.sleep(0.02)
        return self

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a crash: `kill -9`, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout: float = 40.0) -> int:
        """As an orderly stop: SIGTERM, and wait; returns the exit code."""
        self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 40.0) -> int:
        return self.process.wait(timeout)

    def restart(self) -> Self:
        """Crash it and start it again."""
        self.kill()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self.kill()

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST_")}
        settings = {"NOTIFICATIONS": ways.NOTIFICATIONS, **self._settings}
        if "DATABASE_URL" in settings:
            settings["DATABASE_URL"] = ways.by_way(str(settings["DATABASE_URL"]))
        given = {f"MILEPOST_{name}": _text(value) for name, value in settings.items()}
        path = os.pathsep.join(str(folder) for folder in (ROOT, self._modules) if folder)
        return {**inherited, **given, "PYTHONPATH": path, "PYTHONWARNINGS": "error::ResourceWarning"}


def plain(log: str) -> str:
    """The log without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", log)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
