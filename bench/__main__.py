"""`python -m bench`: measure Tasker beside its peers in one run; print and keep the figures.

`--quick` takes under two minutes, the full run under twelve. `--only NAME` (repeatable) measures a part and keeps
nothing. Ends with status 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from bench import batches, distributed, machine, measures, queues, streams
from bench.measures import Plan
from bench.report import Row, keep, table
from bench.servers import LOAD_CORE, pin

MEASURES = measures.MEASURES | batches.MEASURES | streams.MEASURES | distributed.MEASURES | queues.MEASURES


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small rounds, for a first look")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="measure this alone; keep nothing")
    parser.add_argument("--disk", type=Path, default=Path(__file__).parent.parent, help="where the data folders go")
    parser.add_argument("--rounds", type=int, help="how often each server is measured")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = Plan(arguments.disk)
    if arguments.quick:
        plan = Plan(arguments.disk, rounds=1, seconds=1.5, samples=500, waits=2000, wait_for=10, finished=100_000)
    if arguments.rounds:
        plan = Plan(**{**vars(plan), "rounds": arguments.rounds})
    return plan


def main() -> int:
    """Run the measures and return the exit status."""
    arguments = _arguments()
    machine.check()
    pin(LOAD_CORE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    about = machine.describe(arguments.disk)
    print(f"{about['cpu']}, {about['cores']} cores, fdatasync {about['fdatasync_ms']} ms, commit {about['commit']}")
    rows: list[Row] = []
    for name in arguments.only or MEASURES:
        start = time.monotonic()
        taken = MEASURES[name](_plan(arguments))
        print(f"\n{name} ({time.monotonic() - start:.0f} s)\n{table(taken)}", flush=True)
        rows += taken
    if not arguments.only:
        keep(rows, about, "quick" if arguments.quick else "full")
    return int(any(row.is_met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
