"""docs/authoring.md, for somebody who does what it says."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import shell
from tests.support.guides import ROOT, script
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.apart


def test_a_module_of_ones_own_is_served(tmp_path):
    with script("docs/authoring.md", "A first one") as blocks:
        module, made, start = blocks.take("python"), blocks.take("sh"), blocks.take("sh")
        failed, word = blocks.take("json"), blocks.take("sh")
    folder = tmp_path / "code" / "shop"
    folder.mkdir(parents=True)
    (folder / "orders.py").write_text(module.text)

    with shell.serving(made, tmp_path, env={"HOME": str(tmp_path)}) as service, ThreadPoolExecutor(1) as aside:
        started = aside.submit(shell.run, start, address=service.url)
        eventually_sync(lambda: "received_at" in shell.run(word, address=service.url), message="it takes messages")
        answer = started.result()

    assert failed.fits(answer), answer


def test_its_tests_pass_with_its_settings(tmp_path):
    with script("docs/authoring.md", "Testing") as blocks:
        tests, settings = blocks.take("python"), blocks.take("ini")
    with script("docs/authoring.md", "A first one", only="python") as blocks:
        module = blocks.take("python")
    (tmp_path / "milepost").symlink_to(ROOT)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "test_orders.py").write_text(module.text + tests.text)
    (folder / "pytest.ini").write_text(settings.text)

    run = subprocess.run(
        [sys.executable, "-m", "pytest"], cwd=folder, env=shell.clean(), capture_output=True, text=True, check=False
    )

    assert "3 passed" in run.stdout, run.stdout + run.stderr
