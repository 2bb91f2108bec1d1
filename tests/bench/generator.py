"""The load: wrk, Debian's package, which runs `checkout.lua`. One thread and one connection for each client."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

ORDER = {"sku": "A1", "quantity": 2, "address": "1 Long Street, 12345 Harbour"}
START = {"name": "purchase", "input": ORDER}


@dataclass(frozen=True, slots=True)
class Script:
    """What a client asks for in a row: a POST, and perhaps a request that waits for the event."""

    start: str
    body: object = None
    method: str = ""
    wait: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    began: float
    """No later than its first request, by the clock of the wall."""
    ended: float
    seconds: float
    latencies: list[float]
    """Milliseconds from the first request of a checkout to its last answer, sorted; those under way at the end count
    for nothing."""
    cpu: float
    """Seconds of processor time that the generator took."""


def run(url: str, script: Script, clients: int, seconds: int) -> Load:
    wrk = ["wrk", "-t", str(clients), "-c", str(clients), "-d", f"{seconds}s", "--timeout", "30s"]
    body = json.dumps(script.body or START, separators=(",", ":"))
    order = ["--", script.start, body, script.method, script.wait, uuid4().hex[:12]]
    command = [*wrk, "-s", str(Path(__file__).with_name("checkout.lua")), url, *order]
    # Its own clock is read when it has gathered what its threads have seen, which is a little late.
    began = time.time()
    before = os.times()
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    after = os.times()
    lines = [line.partition(" ")[::2] for line in told.stdout.splitlines()]
    (refused,) = (rest for name, rest in lines if name == "refused")
    if int(refused.split()[0]):
        raise SystemExit(f"{url}: refused {refused}")
    figures = {name: float(rest) for name, rest in lines if name in {"ended", "seconds"}}
    return Load(
        began,
        figures["ended"],
        figures["seconds"],
        sorted(float(rest) / 1000 for name, rest in lines if name == "latency"),
        after.children_user + after.children_system - before.children_user - before.children_system,
    )
