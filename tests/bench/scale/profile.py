"""Where the service's processor time goes, by samples of its stack while 32 clients buy by one request."""

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.bench import generator
from tests.bench.contestants.base import INSTALLED, Place
from tests.bench.scale.base import Bench, Figures, bench, note

SPY = INSTALLED / "profiler" / "bin" / "py-spy"
CLIENTS = 32
SECONDS = 5

# The first that fits the innermost frame of ours tells what a sample is about.
PARTS = {
    "app/api/": "the API: arguments, checks, answers",
    "app/store/": "statements, and the driver under them",
    "app/engine/journal.py": "the journal",
    "app/engine/batch.py": "looks of those who wait",
    "app/engine/lookup.py": "looks of those who wait",
    "app/engine/views.py": "looks of those who wait",
    "app/engine/hub.py": "looks of those who wait",
    "app/engine/": "workflows: their loop, steps and records",
    "app/authoring/": "the workflows' own code and values",
    "workflows.py": "the workflows' own code and values",
    "uvicorn/": "the HTTP server",
    "app/server.py": "the HTTP server",
    "app/http/": "the HTTP server",
}
REST = "the event loop"
# What works for whoever calls it.
TOOLS = ("app/values.py", "app/aside.py", "app/patience.py", "app/telemetry/")


def measure(place: Place, size: int, repetitions: int) -> Figures:
    """`size` samples a second."""
    figures: Figures = {}
    script = generator.Script("/workflows?wait_for=payment_url&timeout=25")
    with bench(place) as service:
        generator.run(service.service.url, script, CLIENTS, 2)
        for number in range(repetitions):
            shares = _shares(service, script, size, place.folder / f"{number}.txt")
            note(figures, {f"% in {part}": shares[part] for part in dict.fromkeys([*PARTS.values(), REST])})
    return figures


def _shares(service: Bench, script: generator.Script, rate: int, told: Path) -> Counter[str]:
    """Per cent of the samples, by part."""
    pid = service.service.pid
    options = ["--rate", str(rate), "--duration", str(SECONDS), "--format", "raw", "--output", str(told)]
    with subprocess.Popen([SPY, "record", *options, "--pid", str(pid)], stdout=subprocess.DEVNULL) as spy:
        time.sleep(0.5)  # it looks for the interpreter first
        generator.run(service.service.url, script, CLIENTS, SECONDS)
    assert spy.returncode == 0, "py-spy could not look into the service: it has to run as the same user, or as root"
    counted = Counter[str]()
    for line in told.read_text().splitlines():
        stack, _, times = line.rpartition(" ")
        counted[_part(stack.split(";"))] += int(times)
    return Counter({part: 100 * times / counted.total() for part, times in counted.items()})


def _part(stack: Sequence[str]) -> str:
    for frame in reversed(stack):
        file = frame.partition("(")[2]
        if not any(tool in file for tool in TOOLS):
            for place, part in PARTS.items():
                if place in file:
                    return part
    return REST
