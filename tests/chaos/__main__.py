"""`make chaos`: three replicas, a load of random workflows, faults of every kind; then every history is checked.

ARGS="--seconds 3600 --seed 7" takes an hour. Results, logs and what is wrong are kept in build/chaos.
"""

import argparse
import asyncio
import shutil
import sys
import time

import uvloop

from tests.chaos import report
from tests.chaos.campaign import Campaign, Plan
from tests.chaos.cluster import Unfit
from tests.support.service import ROOT

FOLDER = ROOT / "build" / "chaos"


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make chaos", description=__doc__.partition("\n")[0])
    arguments.add_argument("--seconds", type=float, default=180, help="how long there is load (180)")
    arguments.add_argument("--seed", type=int, default=int(time.time()), help="what all is made of (the time)")
    arguments.add_argument("--rate", type=float, default=13, help="units of load begun each second (13)")
    arguments.add_argument("--only", action="append", default=[], help="only faults with this in their name")
    given = arguments.parse_args()
    folder = FOLDER / f"seed-{given.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plan = Plan(given.seconds, given.seed, given.rate, folder, tuple(given.only))
    print(f"seed {given.seed}, {given.seconds:g} s; logs and results in {folder}", flush=True)
    campaign = Campaign(plan, lambda line: print(line, flush=True))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(campaign.run())
    except Unfit as lack:
        print(lack, file=sys.stderr)
        return 2
    campaign.keep(results)
    print()
    print("\n".join(report.text(results)))
    if results["violations"]:
        print(f"\nVIOLATIONS; repeat the run by --seed {given.seed}")
        for whom, wrong in list(results["violations"].items())[:20]:
            print("\n".join(f"  {whom}: {sentence[:2000]}" for sentence in wrong[:5]))
    if not results["valid"]:
        print("\nNOT A VALID RUN: most requests must have succeeded")
    return 1 if results["violations"] or not results["valid"] else 0


if __name__ == "__main__":
    sys.exit(main())
