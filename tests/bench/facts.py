"""What a run is known by: the machine, and the versions of all that took part."""

import json
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.release import VERSION
from tests.bench import machine
from tests.bench.contestants.base import BENCH, INSTALLED
from tests.bench.postgres import Postgres

PEERS = {"dbos": ("dbos",), "restate": ("restate-sdk", "hypercorn"), "absurd": ("absurd-sdk",)}
SHARED = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "psycopg")


def gather(postgres: Postgres, folder: Path) -> dict[str, Any]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{os.cpu_count()} processors ({cpu[1] if cpu else platform.machine()}), {memory:.0f} GiB of memory",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}",
        "disk": f"8 KiB on the disk in {machine.disk(folder):.2f} ms",
        "load": f"{os.getloadavg()[0]:.2f} before the run",
        "versions": versions(postgres),
    }


def versions(postgres: Postgres) -> dict[str, str]:
    locked = {name: pinned(BENCH / "peers" / f"{peer}.lock", name) for peer, names in PEERS.items() for name in names}
    (server,) = (INSTALLED / "npm").glob("node_modules/@restatedev/restate-server/package.json")
    return {
        "milepost": VERSION,
        "postgresql": str(postgres.ask("postgres", "show server_version")[0]).partition(" ")[0],
        "restate-server": json.loads(server.read_text())["version"],
        **locked,
        **{name: version(name) for name in SHARED},
        "wrk": subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split()[1],
    }


def pinned(lock: Path, name: str) -> str:
    found = re.search(rf"(?m)^{re.escape(name)}==(\S+)", lock.read_text())
    assert found, f"{lock} has no {name}"
    return found[1]
