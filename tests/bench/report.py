"""The document: `page.md` with tables and plots behind its mark, as docs/performance.md. Also alone:
`python -m tests.bench.report [RESULTS]`."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench import plots, scale
from tests.bench.contestants.base import BENCH, INSTALLED, ROOT
from tests.bench.results import ECHO, MILEPOST, Results, ratios, spread

MARK = "<!-- figures -->"
RESULTS = INSTALLED / "results.json"
PAGE = ROOT / "docs" / "performance.md"
BESIDE = ROOT / "docs" / "performance"

TUNED, RESTATE, ABSURD = [(name, "two requests") for name in ("dbos, tuned", "restate", "absurd")]
ONE, START = [("milepost", scenario) for scenario in ("one request", "start")]
TWICE = ("milepost, 2 processes", "two requests")

# What is compared, of whom with whom, which figure, at how many clients, and what is aimed at.
COMPARED = [
    ("checkouts/s, two requests", MILEPOST, TUNED, "rate", 32, "≥ 25"),
    ("checkouts/s, two requests", MILEPOST, RESTATE, "rate", 32, "≥ 12"),
    ("checkouts/s, two requests", MILEPOST, ABSURD, "rate", 32, ""),
    ("POST to the URL, p50", MILEPOST, TUNED, "p50", 1, "≤ 0.125"),
    ("POST to the URL, p50", MILEPOST, RESTATE, "p50", 1, "≤ 0.2"),
    ("POST to the URL, p99", MILEPOST, TUNED, "p99", 32, "≤ 0.05"),
    ("checkouts/s, one request", ONE, ECHO, "rate", 32, "≥ 0.6"),
    ("checkouts/s, two requests", MILEPOST, ECHO, "rate", 32, "≥ 0.35"),
    ("starts without waiting, finished/s", START, ECHO, "rate", 64, "≥ 0.7"),
    ("processor time for a checkout", MILEPOST, TUNED, "cpu", 32, "≤ 0.025"),
    ("processor time for a checkout", MILEPOST, RESTATE, "cpu", 32, "≤ 0.0625"),
    ("processor time for a checkout", MILEPOST, ECHO, "cpu", 32, "≤ 3"),
    ("checkouts/s with two processes", TWICE, MILEPOST, "rate", 32, "≥ 1.6, where two processors are free"),
    ("processor time with two processes", TWICE, MILEPOST, "cpu", 32, "≤ 1"),
]


def table(head: Sequence[str], rows: Iterator[Sequence[str]], left: int = 1) -> Iterator[str]:
    """In Markdown; the first columns are set left, the others right."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * left}{'---:|' * (len(head) - left)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _counted(clients: int) -> str:
    return f"{clients} {'client' if clients == 1 else 'clients'}"


def named(way: tuple[str, str]) -> str:
    return ", ".join(way)


def compared(results: Results) -> Iterator[Sequence[str]]:
    def of(way: tuple[str, str], name: str, clients: int) -> dict[int, float]:
        return results.total(way, clients) if name == "cpu" else results.figures(way, clients, name)

    for what, one, other, name, clients, aim in COMPARED:
        if told := spread(ratios(of(one, name, clients), of(other, name, clients))):
            yield what, str(clients), named(one), named(other), f"{told} ×", aim
    for clients, aim in ((1, "≤ 3"), (64, "< 0.15")):
        if told := spread(results.figures(MILEPOST, clients, "journal").values()):
            yield "statements of the journal for a checkout", str(clients), named(MILEPOST), "", told, aim


def throughput(results: Results) -> Iterator[Sequence[str]]:
    for way in results.ways:
        yield *way, *(spread(results.figures(way, clients, "rate").values()) for clients in results.clients)


def latencies(results: Results) -> Iterator[Sequence[str]]:
    for way in results.ways:
        asked = [(clients, cut) for clients in (1, 32) for cut in ("p50", "p99")]
        yield *way, *(spread(results.figures(way, clients, cut).values()) for clients, cut in asked)


def costs(results: Results, clients: int) -> Iterator[Sequence[str]]:
    for way in results.ways:
        parts = results.cpu(way, clients)
        told = [spread(parts.get(part, [])) for part in ("service", "database", "server")]
        asked = [
            spread(results.figures(way, clients, name).values()) for name in ("statements", "written", "generator")
        ]
        yield *way, *told, spread(results.total(way, clients).values()), *asked


def sections(results: Results) -> Iterator[str]:
    facts = results.facts
    yield f"{results.rounds} rounds. {facts['machine']}, {facts['system']}; {facts['disk']}; load {facts['load']}."
    yield ""
    yield from ("Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".", "")
    yield from ("## Ratios", "", "Of one figure to another within a round: the median, ± half the spread.", "")
    yield from table(("", "clients", "of", "to", "is", "aimed at"), compared(results), left=4)
    yield from ("## Throughput", "", "Checkouts a second that had finished, as the database says.", "")
    if len(results.clients) > 1:
        yield from ("![Checkouts a second against clients](performance/throughput.svg)", "")
    yield from table(("", "", *(_counted(clients) for clients in results.clients)), throughput(results), left=2)
    yield from (
        "## Latency",
        "",
        "Milliseconds from the POST to the payment page's address (or to the only answer).",
        "",
    )
    for clients in (1, 32):
        if clients in results.clients:
            yield from (f"![Latencies with {_counted(clients)}](performance/latency-{clients}.svg)", "")
    yield from table(("", "", "1 client, p50", "p99", "32 clients, p50", "p99"), latencies(results), left=2)
    yield from ("## Cost", "")
    yield "For one checkout: milliseconds of processor time by part, statements that PostgreSQL was sent, bytes of its"
    yield from ("write-ahead log. And how much of one processor the load generator took.", "")
    if 32 in results.clients:
        yield from ("![Processor time for a checkout](performance/cpu.svg)", "")
    head = ("", "", "service", "PostgreSQL", "server", "together", "statements", "WAL bytes", "generator")
    for clients in results.clients:
        yield from (f"With {_counted(clients)}:", "")
        yield from table(head, costs(results, clients), left=2)
    if limits := results.limits():
        yield from ("## Limits", "", "What the machine does of the parts, in the same rounds.", "")
        yield from table(("", ""), ((name, spread(found)) for name, found in limits.items()))
    for row in results.scale():
        measure = scale.ALL[row["scale"]]
        yield from (f"## {row['size']:,} {measure.title}", "", f"{facts_of(row)}.", "")
        told = ((name, spread(found), measure.aims.get(name, "")) for name, found in row["figures"].items())
        yield from table(("", "is", "aimed at"), told)
    yield from ("## Settings", "")
    yield from table(("contestant", "runs with"), iter(results.settings.items()), left=2)


def facts_of(row: dict[str, Any]) -> str:
    count = len(next(iter(row["figures"].values())))
    return f"The median of {count}, ± half the spread; load {row['load']} before"


def text(results: Results) -> Iterator[str]:
    """For the terminal: the ratios, and each way's rate."""
    for what, clients, one, other, told, aim in compared(results):
        yield f"{what:<42} {clients:>2}  {told:>18}  {aim:<12} {one} : {other}"
    for contestant, scenario, *rates in throughput(results):
        yield f"{contestant:<22} {scenario:<14} " + " ".join(f"{rate:>16}" for rate in rates)


def write(results: Results, raw: Path, page: Path = PAGE, beside: Path = BESIDE) -> None:
    """The page, its plots, and beside them the raw results."""
    before, mark, _ = (BENCH / "page.md").read_text().partition(MARK)
    assert mark
    beside.mkdir(parents=True, exist_ok=True)
    body = "\n".join(sections(results)).rstrip()
    page.write_text(f"{before}{mark}\n\n{body}\n")
    drawn = {"throughput": plots.throughput(results), "cpu": plots.costs(results, 32)}
    for clients in (1, 32):
        if clients in results.clients:
            drawn[f"latency-{clients}"] = plots.latencies(results, clients)
    for name, picture in drawn.items():
        (beside / f"{name}.svg").write_text(picture)
    if raw.parent != beside:
        shutil.copy(raw, beside / "results.json")


def main(raw: str = str(RESULTS)) -> None:
    write(Results.read(Path(raw)), Path(raw))


if __name__ == "__main__":
    main(*sys.argv[1:])
