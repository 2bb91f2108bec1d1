"""A run's results as tables: for the terminal, and as Markdown by `python -m tests.chaos.report FILE [PAGE]`.

A page that is named gets the tables behind its mark.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

MARK = "<!-- figures -->"


def faults(results: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """By kind: how many were injected, how many were seen to strike, how long what followed took."""
    yield "fault", "injected", "struck", "what followed, in seconds: median, longest; with other faults at the time"
    kinds: dict[str, list[dict[str, Any]]] = {}
    for strike in results["strikes"]:
        kinds.setdefault(strike["kind"], []).append(strike)
    for kind, strikes in sorted(kinds.items()):
        struck = [strike for strike in strikes if strike["struck"]]
        told = "; ".join(_figure(name, struck) for name in _names(struck))
        yield kind, str(len(strikes)), str(len(struck)), told
    total = results["strikes"]
    yield "all", str(len(total)), str(sum(strike["struck"] for strike in total)), ""


def _names(strikes: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for strike in strikes for name in strike["figures"]))


def _figure(name: str, strikes: list[dict[str, Any]]) -> str:
    """How long something took where the fault was alone, and where another one was there too."""
    alone = [strike["figures"][name] for strike in strikes if name in strike["figures"] and not strike["overlaps"]]
    among = [strike["figures"][name] for strike in strikes if name in strike["figures"] and strike["overlaps"]]
    told = [f"{median(took):.1f}, {max(took):.1f}" if took else "–" for took in (alone, among)]
    return f"{name} {told[0]} ({told[1]})"


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


def main(file: str, page: str | None = None) -> None:
    tables = "\n".join(markdown(json.loads(Path(file).read_text())))
    if page is None:
        print(tables)
        return
    before, mark, _ = Path(page).read_text().partition(MARK)
    assert mark, f"{page} has no place for the tables: {MARK}"
    Path(page).write_text(f"{before}{mark}\n\n{tables}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
