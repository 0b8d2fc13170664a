"""`python -m bench`: measure Tasker and its peers in one run; print and keep the figures.

The full run takes about 40 minutes, `--quick` about eight. `--only NAME` (repeatable) measures a part and keeps
nothing. A measure that fails does not stop the others: their figures are kept. Ends with status 1 if a bar is missed,
2 if a measure failed, and 3 before anything is measured if a server or package of a peer is missing.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench import (
    batches,
    counting,
    distributed,
    lists,
    machine,
    many_workers,
    measures,
    needs,
    pages,
    queues,
    steps,
    streams,
    watchers,
)
from bench.measures import Plan
from bench.report import Row, keep, table
from bench.servers import LOAD_CORE, pin

MEASURES = (
    measures.MEASURES
    | batches.MEASURES
    | streams.MEASURES
    | distributed.MEASURES
    | queues.MEASURES
    | lists.MEASURES
    | many_workers.MEASURES
    | counting.MEASURES
    | pages.MEASURES
    | watchers.MEASURES
    | steps.MEASURES
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small rounds, for a first look")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="measure this alone; keep nothing")
    parser.add_argument("--disk", type=Path, default=Path(__file__).parent.parent, help="where the data folders go")
    parser.add_argument("--rounds", type=int, help="how often each server is measured")
    parser.add_argument("--tasks", type=int, action="append", help="how many tasks `pages` has (repeatable)")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = Plan(arguments.disk)
    if arguments.quick:
        plan = Plan(arguments.disk, rounds=1, seconds=1.5, samples=500, waits=2000, wait_for=10, finished=100_000)
    elif arguments.only:
        plan = replace(plan, ended=(1_000_000, 10_000_000))
    if arguments.tasks:
        plan = replace(plan, ended=tuple(arguments.tasks))
    if arguments.rounds:
        plan = replace(plan, rounds=arguments.rounds)
    return plan


def _measure(names: Iterable[str], plan: Plan) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of the measures, and the reason of each that failed."""
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for name in names:
        start = time.monotonic()
        try:
            taken = MEASURES[name](plan)
        except Exception as error:  # a peer may fail in any way; keep the figures of the others
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
            print(f"\n{name} FAILED ({time.monotonic() - start:.0f} s): {failed[name]}", flush=True)
        else:
            print(f"\n{name} ({time.monotonic() - start:.0f} s)\n{table(taken)}", flush=True)
            rows += taken
    return rows, failed


def main() -> int:
    """Run the measures and return the exit status."""
    arguments = _arguments()
    names = arguments.only or list(MEASURES)
    machine.check()
    if lacking := needs.missing(names):
        print("The benchmark cannot start:", *lacking, sep="\n  ", file=sys.stderr)
        return 3
    pin(LOAD_CORE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    about = machine.describe(arguments.disk)
    print(
        f"{about['cpu']}, {about['cores']} cores, load average {about['load_average']}, "
        f"fdatasync {about['fdatasync_ms']} ms, commit {about['commit']}"
    )
    rows, failed = _measure(names, _plan(arguments))
    if rows and not arguments.only:
        keep(rows, about, "quick" if arguments.quick else "full", failed)
    for name, reason in failed.items():
        print(f"{name} failed: {reason}", file=sys.stderr)
    return 2 if failed else int(any(row.is_met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
