"""`make bench`: checkouts by Milepost and by its peers, side by side, written to docs/performance.md.

ARGS="small" measures Milepost alone, in a minute. ARGS="waiting", "parked", "flat", "large", "blocking", "wake" and
"profile" measure one thing each, and add what they see to the results, which are kept in build/bench/results.json.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench import contestants, facts, plan, postgres, report, scale, small
from tests.bench.contestants.base import INSTALLED, ROOT
from tests.bench.postgres import Postgres
from tests.bench.results import Results, spread


@contextmanager
def prepared(**settings: str) -> Iterator[tuple[Path, Postgres]]:
    """A folder for the run, and the database server. Not among temporary files: those may be on no disk at all."""
    folder = INSTALLED / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with postgres.running(folder / "postgres", **settings) as server:
        yield folder, server
    shutil.rmtree(folder)


def side_by_side(words: Sequence[str]) -> None:
    names = [kind.name for kind in contestants.ALL]
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=5, help="how often each figure is measured (5)")
    arguments.add_argument("--seconds", type=int, default=3, help="how long the load of one figure takes (3)")
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64], help="(1 8 32 64)")
    arguments.add_argument("--only", nargs="+", default=[], choices=names, help="only these; nothing is kept")
    given = arguments.parse_args(words)
    chosen = plan.Plan(given.rounds, given.seconds, given.clients, given.only)
    began = time.monotonic()
    with prepared() as (folder, server):
        settings = {kind.name: kind.settings for kind in chosen.contestants}
        results = Results(facts.gather(server, folder), settings, kept().scale())

        def keep(row: plan.Row) -> None:
            results.rows.append(row)
            if not given.only:
                results.write(report.RESULTS)

        plan.run(chosen, folder, server, lambda line: print(line, flush=True), keep)
    print("\n".join(report.text(results)))
    if not given.only:
        report.write(results, report.RESULTS)
        print(f"{time.monotonic() - began:.0f} s; see {report.PAGE.relative_to(ROOT)}")


def much_of(words: Sequence[str]) -> None:
    name, measure = words[0], scale.ALL[words[0]]
    arguments = argparse.ArgumentParser(prog=f"make bench ARGS={name}", description=f"Measure {measure.title}.")
    arguments.add_argument("--size", type=int, default=measure.size, help=f"how many ({measure.size})")
    arguments.add_argument("--repetitions", type=int, default=measure.repetitions, help=f"({measure.repetitions})")
    given = arguments.parse_args(words[1:])
    load = f"{os.getloadavg()[0]:.2f}"
    with prepared(**measure.settings) as (folder, server):
        figures = scale.measure(name, folder, server, given.size, given.repetitions)
    results = kept()
    results.rows = [row for row in results.rows if row.get("scale") != name]
    results.rows.append({"scale": name, "size": given.size, "load": load, "figures": figures})
    results.write(report.RESULTS)
    for what, found in figures.items():
        print(f"{what:<55} {spread(found):>20}  {measure.aims.get(what, '')}")
    if results.rounds:
        report.write(results, report.RESULTS)


def kept() -> Results:
    """What earlier runs have left."""
    return Results.read(report.RESULTS) if report.RESULTS.exists() else Results({}, {})


def main(words: Sequence[str]) -> None:
    if words[:1] == ["small"]:
        small.main(words[1:])
    elif words and words[0] in scale.ALL:
        much_of(words)
    else:
        side_by_side(words)


if __name__ == "__main__":
    main(sys.argv[1:])
