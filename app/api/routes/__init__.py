"""The operations by noun: each parses, calls one command or view, and answers."""
