"""Hypothesis drives two replicas and the contract side by side, and compares after every rule.

A rule asks one replica or the other, tells the contract the same, and waits until both replicas show what the contract
says. What they show meanwhile may lag behind it, and never contradict it.
"""

from tests.model.disasters import Disasters
from tests.model.reading import Reading


class Machine(Disasters, Reading):
    """All rules."""
