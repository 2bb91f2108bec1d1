"""The service does what the contract says, whatever is done to it and in whatever order.

A minute of it, the same each time. MODEL_EXAMPLES=2000 and MODEL_STEPS=100 have it look for hours, each time elsewhere.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.model.machine import Machine
from tests.model.replicas import Replica

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "8"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))
PARTS = 6


@pytest.mark.parametrize("part", range(PARTS))
def test_the_service_does_what_the_contract_says(pair: tuple[Replica, Replica], part: int) -> None:
    class OnThese(Machine):
        most_disasters = STEPS // 7

        def __init__(self) -> None:
            super().__init__(pair)

    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        # Shrinking would take as long as whatever is waited for in vain, many times over.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    before = OnThese.struck.copy()
    test = get_state_machine_test(OnThese, settings=chosen)
    if "MODEL_EXAMPLES" not in os.environ:
        test = seed(part)(test)
    test()
    struck = OnThese.struck - before
    assert struck, "nothing has gone wrong"
