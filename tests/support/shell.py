"""Blocks of shell, run by bash as a reader would paste them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.support.guides import ADDRESS, ROOT, Block
from tests.support.ports import free_port
from tests.support.waiting import eventually_sync

DRY = 'make() { command make --dry-run "$@"; }\n'
"""Before a block: `make` says what it would do, which it can only for targets that there are."""

INSTALLED = 'make() { command make --old-file=.venv/.run --old-file=.venv/.dev "$@"; }\n'
"""Before a block: `make` uses what is installed, as the tests do, and does not look whether it is the newest."""

Environment = Mapping[str, str]


def run(
    block: Block,
    *,
    address: str = ADDRESS,
    before: str = "",
    cwd: Path = ROOT,
    env: Environment | None = None,
    timeout: float = 120,
) -> str:
    """What it prints; it has to succeed. Of a `console` block the lines after `$ ` are run."""
    process = start(block, subprocess.PIPE, address=address, before=before, cwd=cwd, env=env)
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        end(process)
    assert process.returncode == 0, f"{block} ended with {process.returncode}\n{output}\n{errors}"
    return output


def answers(output: str) -> list[Any]:
    """The JSON that several requests have printed, one after the other and with or without lines between."""
    found, rest = [], output.strip()
    while rest:
        answer, length = json.JSONDecoder().raw_decode(rest)
        found.append(answer)
        rest = rest[length:].lstrip()
    return found


class Served:
    """A service that a block has started, `make run` in the end."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The process that the service's first line names."""
        named = re.search(r" serves on \S+ as process (\d+)", self.log)
        assert named, self.log
        return int(named[1])

    def serves(self) -> bool:
        assert self._process.poll() is None, self.log
        return " serves on " in self.log

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(30)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        self._process.wait(30)


@contextmanager
def serving(
    block: Block,
    folder: Path,
    *,
    before: str = INSTALLED,
    cwd: Path = ROOT,
    env: Environment | None = None,
    port: int | None = None,
    timeout: float = 60,
) -> Iterator[Served]:
    """Run a block that serves, with its data in this folder, from the line that says so to the end of `with`."""
    port = port or free_port()
    settings = {"MILEPOST_PORT": str(port), "MILEPOST_DATA_DIR": str(folder / "data"), **(env or {})}
    log = folder / "log"
    with log.open("w") as output:
        process = start(block, output, before=before, cwd=cwd, env=settings)
    try:
        served = Served(process, f"http://127.0.0.1:{port}", log)
        eventually_sync(served.serves, timeout, lambda: f"{block} serves\n{served.log}")
        yield served
        if process.poll() is None:
            served.terminate()
    finally:
        end(process)


def start(
    block: Block,
    output: int | IO[str],
    *,
    address: str = ADDRESS,
    before: str = "",
    cwd: Path = ROOT,
    env: Environment | None = None,
) -> subprocess.Popen[str]:
    """A block of one's own pace, in a session of its own. Whoever starts it ends it, by `end`."""
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", before + commands(block.at(address))],
        cwd=cwd,
        env=clean() | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE if output == subprocess.PIPE else output,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """With all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def commands(block: Block) -> str:
    if block.language != "console":
        return block.text
    typed = re.findall(r"(?m)^\$ (.*(?:(?<=\\)\n.*)*)", block.text)
    assert typed, f"{block} has no command"
    return "\n".join(typed)


def clean() -> dict[str, str]:
    """This process's environment without Milepost's settings and without proxies; `python` is this one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MILEPOST_") and not k.lower().endswith("_proxy")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"}
