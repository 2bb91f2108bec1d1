"""What somebody has after three minutes who has never seen Milepost before, and does what the README says."""

import os
import subprocess
import time

import pytest

from tests.support import shell
from tests.support.guides import ROOT, script

pytestmark = pytest.mark.apart

MINUTES = 3


def test_a_payment_page_is_in_hand_within_three_minutes_of_a_fresh_clone(tmp_path):
    with script("README.md", "Try it") as blocks:
        made, curl, started = blocks.take("sh"), blocks.take("sh"), blocks.take("json")
        blocks.rest("sh"), blocks.rest("json")
    begun = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), "milepost"], cwd=tmp_path, check=True)

    here = {"cwd": tmp_path / "milepost", "env": {"PATH": os.environ["PATH"]}}
    with shell.serving(made, tmp_path, before="", timeout=60 * MINUTES, **here) as service:
        answer = shell.run(curl, address=service.url)
        taken = time.monotonic() - begun

    assert started.at(service.url).fits(answer), answer
    assert taken < 60 * MINUTES, f"it took {taken:.0f} s"
    print(f"{taken:.0f} s from the clone to the payment page")
