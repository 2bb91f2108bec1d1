"""Runs workflows, commits what they record, wakes who waits, recovers what was lost. One file a duty."""
