"""`make bench`: checkouts by Milepost and by its peers, side by side, written to docs/performance.md.

ARGS="small" measures Milepost alone, in a minute. Raw results are kept in build/bench/results.json.
"""

import argparse
import shutil
import sys
import time

from tests.bench import contestants, facts, plan, postgres, report, small
from tests.bench.contestants.base import INSTALLED, ROOT
from tests.bench.results import Results


def main() -> None:
    if sys.argv[1:2] == ["small"]:
        small.main(sys.argv[2:])
        return
    names = [kind.name for kind in contestants.ALL]
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=5, help="how often each figure is measured (5)")
    arguments.add_argument("--seconds", type=int, default=3, help="how long the load of one figure takes (3)")
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64], help="(1 8 32 64)")
    arguments.add_argument("--only", nargs="+", default=[], choices=names, help="only these; writes no document")
    given = arguments.parse_args()
    chosen = plan.Plan(given.rounds, given.seconds, given.clients, given.only)
    folder = INSTALLED / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    # Not in the folder for temporary files: that may be no disk at all.
    with postgres.running(folder / "postgres") as server:
        settings = {kind.name: kind.settings for kind in chosen.contestants}
        results = Results(facts.gather(server, folder), settings)

        def keep(row: plan.Row) -> None:
            results.rows.append(row)
            results.write(report.RESULTS)

        plan.run(chosen, folder, server, lambda line: print(line, flush=True), keep)
    shutil.rmtree(folder)
    print("\n".join(report.text(results)))
    if given.only:
        return
    report.write(results, report.RESULTS)
    print(f"{time.monotonic() - began:.0f} s; see {report.PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
