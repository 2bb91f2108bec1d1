"""Requests that Schemathesis makes from the service's own document: good ones and bad ones, alone and in sequences.

A few thousand that are always the same; `GENERATED=400 pytest -o faulthandler_timeout=0 tests/input/test_generated.py`
makes up to so many for each operation and phase, others each time. Either way it says how many they were.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.input.conftest import look_through
from tests.input.standing import stand
from tests.support.keys import issue
from tests.support.service import ROOT, Service

EXAMPLES = os.environ.get("GENERATED")
HERE = Path(__file__).parent


@pytest.fixture
def searched(launch, tmp_path: Path) -> Iterator[Service]:
    held = issue(tmp_path / "keys", of="admin")
    service = launch(
        WORKFLOWS="tests.support.workflows",
        LOG_FORMAT="json",
        DEFAULT_TIMEOUT=0.1,
        LINGER=0.2,
        API_KEYS_FILE=tmp_path / "keys",
    )
    service.key = held["of"]
    stand(service)
    yield service
    assert service.terminate() == 0, service.log
    look_through(service.log)


@pytest.fixture
def tokens(searched: Service) -> list[str]:
    """Those of callbacks: of a workflow that goes on, and of one that has ended."""
    with searched.client() as client:
        script = [*(["callback", "answer", f"url-{number}"] for number in range(8)), ["receive", "go"]]
        keys = "".join(f"&wait_for=url-{number}" for number in range(8))
        found = client.post(f"/workflows?timeout=20{keys}", json={"name": "scripted", "input": script}).json()
        urls = [event["value"] for event in found["events"].values()]
        script = [["callback", "answer", "url"]]
        found = client.post("/workflows?timeout=20&wait_for=url", json={"name": "scripted", "input": script}).json()
        return [url.rpartition("/")[2] for url in (*urls, found["events"]["url"]["value"])]


def test_generated_requests_find_nothing(searched: Service, tokens: list[str], tmp_path: Path, capsys):
    report = tmp_path / "report.json"
    chosen = ["--max-examples", EXAMPLES] if EXAMPLES else ["--max-examples", "12", "--generation-deterministic"]
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{searched.url}/openapi.json", "--no-color", "--report", "json", "--report-json-path", str(report)),
        *("--report-dir", str(tmp_path), "--header", f"Authorization: Bearer {searched.key}", *chosen),
    ]
    outcome = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CALLBACK_TOKENS": " ".join(tokens), "API_KEY": searched.key},
        capture_output=True,
        text=True,
        timeout=None if EXAMPLES else 300,
        check=False,
    )
    assert report.exists(), outcome.stdout + outcome.stderr
    told = json.loads(report.read_text())
    with capsys.disabled():
        print(f"\n{told['test_cases']['generated']} generated requests in {told['running_time']:.0f} s")
    assert outcome.returncode == 0, outcome.stdout
    assert told["test_cases"]["generated"] >= 2_000
    assert told["operations"]["tested"] == told["operations"]["total"], "an operation was left out"
    assert not told["errors"]
    phases = {name: phase["status"] for name, phase in told["phases"].items()}
    assert phases == {"examples": "success", "coverage": "success", "fuzzing": "success", "stateful": "success"}
