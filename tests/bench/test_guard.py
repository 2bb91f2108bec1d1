"""What a checkout costs, as ratios that hold on any machine: a guard against costs that come unnoticed."""

from pathlib import Path
from statistics import median

import pytest

from tests.bench import small

pytestmark = pytest.mark.alone

CLIENTS = 32
ROUNDS = 3


def test_a_checkout_costs_a_few_echoes_and_many_share_one_write(tmp_path: Path):
    """The bounds are generous; `make bench` says what is aimed at, and what is."""
    with small.bench_in(tmp_path) as bench:
        for scenario in ("echo", "two requests"):
            bench.run(scenario, CLIENTS, seconds=0.5)  # warm
        echoes, checkouts = [], []
        for _ in range(ROUNDS):
            echoes.append(bench.run("echo", CLIENTS, seconds=0.7))
            checkouts.append(bench.run("two requests", CLIENTS, seconds=1))
    spent = [
        (checkout["service"] + checkout["database"]) / echo["service"]
        for echo, checkout in zip(echoes, checkouts, strict=True)
    ]
    flushes = [checkout["flushes"] for checkout in checkouts]
    print(f"processor time to that of an echo: {spent}; statements of the journal for a checkout: {flushes}")
    assert median(spent) < 15
    assert median(flushes) < 0.6
