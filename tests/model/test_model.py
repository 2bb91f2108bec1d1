"""The service does what the contract says, whatever is done to it and in whatever order.

MILEPOST_MODEL=thorough has it look for hours rather than for a minute, each time elsewhere.
"""

import os
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine
from tests.model.puppet import LEDGER
from tests.model.replicas import Replica, replicas
from tests.support.databases import Databases

EXAMPLES, STEPS = (
    int(os.environ.get("MILEPOST_MODEL_EXAMPLES", "50")),
    int(os.environ.get("MILEPOST_MODEL_STEPS", "30")),
)
THOROUGH = "MILEPOST_MODEL_EXAMPLES" in os.environ


@pytest.fixture(scope="module")
def pair(databases: Databases, template: str) -> Iterator[tuple[Replica, Replica]]:
    with databases.clone(template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(LEDGER)
        with replicas(url) as both:
            yield both


def test_the_service_does_what_the_contract_says(pair: tuple[Replica, Replica]) -> None:
    run_state_machine_as_test(
        lambda: Machine(pair),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not THOROUGH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
