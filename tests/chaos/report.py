"""A run's results as tables: for the terminal, and as Markdown by `python -m tests.chaos.report FILE`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any


def faults(results: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """By kind: how many were injected, how many were seen to strike, how long what followed took."""
    yield "fault", "injected", "struck", "recovery: median, longest"
    kinds: dict[str, list[dict[str, Any]]] = {}
    for strike in results["strikes"]:
        kinds.setdefault(strike["kind"], []).append(strike)
    for kind, strikes in sorted(kinds.items()):
        struck = [strike for strike in strikes if strike["struck"]]
        figures: dict[str, list[float]] = {}
        for strike in struck:
            for name, seconds in strike["figures"].items():
                figures.setdefault(name, []).append(seconds)
        told = "; ".join(f"{name} {median(took):.1f} s, {max(took):.1f} s" for name, took in figures.items())
        yield kind, str(len(strikes)), str(len(struck)), told
    total = results["strikes"]
    yield "all", str(len(total)), str(sum(strike["struck"] for strike in total)), ""


def summary(results: dict[str, Any]) -> Iterator[tuple[str, str]]:
    operations = {"ok": 0, "refused": 0, "lost": 0, **results["operations"]}
    asked = sum(operations.values())
    answers = (
        f"{operations['ok']:,} answered, {operations['refused']:,} refused with a 503, {operations['lost']:,} lost"
    )
    yield "seed, length", f"{results['seed']}, {results['seconds']:g} s"
    yield "machine", results["machine"]
    yield "workflows checked", f"{results['workflows']:,}"
    yield "of these ended", ", ".join(f"{status} {count:,}" for status, count in sorted(results["ended"].items()))
    yield "checked rows", ", ".join(f"{count:,} {what}" for what, count in results["rows"].items())
    yield "requests", f"{asked:,}: {answers}"
    yield "long polls, logs read whole", f"{results['looks']:,}, {results['logs_read']:,}"
    yield (
        "executions of a step's body",
        ", ".join(f"{count:,} × {times}" for times, count in results["executions"].items()),
    )
    for when, spread in results["wake_ups"].items():
        if "p50" in spread:
            p50, p95, p99 = (f"{1000 * spread[cut]:.0f} ms" for cut in ("p50", "p95", "p99"))
            told = f"p50 {p50}, p95 {p95}, p99 {p99}, longest {spread['max']:.1f} s, of {spread['count']:,}"
            yield f"from commit to reader, {when}", told
    for when, resources in results["resources"].items():
        yield f"resources {when}", ", ".join(f"{name} {value}" for name, value in resources.items())
    yield "violations", str(sum(map(len, results["violations"].values())))


def text(results: dict[str, Any]) -> Iterator[str]:
    for name, value in summary(results):
        yield f"{name:<40} {value}"
    yield ""
    for kind, injected, struck, told in faults(results):
        yield f"{kind:<45} {injected:>8} {struck:>7}  {told}"


def markdown(results: dict[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for row in summary(results):
        yield f"| {' | '.join(row)} |"
    yield ""
    head, *rest = faults(results)
    yield f"| {' | '.join(head)} |"
    yield "|---|---:|---:|---|"
    for kind in rest:
        yield f"| {' | '.join(kind)} |"


if __name__ == "__main__":
    print("\n".join(markdown(json.loads(Path(sys.argv[1]).read_text()))))
