"""Faults, each of which proves that it struck. `schedule` plays them."""
