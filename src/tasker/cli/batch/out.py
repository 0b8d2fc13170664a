"""`tasker batch --out`: run the rows and write their results, from where an earlier command was stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tasker.cli.batch.progress import Tell, describe, show_progress
from tasker.cli.batch.results import Order, Pass, Results, Tally
from tasker.cli.batch.rows import Shape
from tasker.cli.batch.running import Running, find_work
from tasker.cli.batch.source import Source
from tasker.cli.exits import Exit
from tasker.cli.faults import explain
from tasker.cli.terminal import note, show
from tasker.client import AsyncTasker, ClientError


def run_file(
    connect: Callable[[], AsyncTasker],
    source: Source,
    shape: Shape,
    out: Path,
    *,
    told: Mapping[str, Any],
    url: str,
    in_flight: int,
    retry_failed: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run what is left of the rows, and print the sum; return the exit code. told: the options that make the tasks."""
    total = source.count()
    next(source.rows(shape), None)  # raises what is wrong with all rows, before anything is begun
    given = {name: value for name, value in told.items() if value}
    order = Order(url=url, digest=source.digest(), options=_as_json(given))
    with Results(out, order, _as_json(shape.options)) as results:
        shape = replace(shape, options=results.shared)
        while (one := results.next_pass(retry_failed=retry_failed)) is not None:
            try:
                with show_progress(total, quiet=quiet) as tell:
                    asyncio.run(_run(connect, source, shape, one, in_flight, tell))
                one.finish()
            except KeyboardInterrupt:
                note(f"\n{_so_far(out, one.tally, total)} Open tasks go on. The same command goes on here.")
                return Exit.INTERRUPTED
            except ClientError as error:
                code = explain(error)
                note(f"{_so_far(out, one.tally, total)} The same command goes on here.")
                return code
            finally:
                one.close()
            results.finish()
        tally = results.tally()
    _print(tally, out, quiet=quiet, as_json=as_json)
    return Exit.TASK_FAILED if tally.bad else Exit.OK


def _as_json(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members as they are read from a file."""
    return msgspec.json.decode(msgspec.json.encode(members), type=dict[str, Any])


async def _run(
    connect: Callable[[], AsyncTasker], source: Source, shape: Shape, one: Pass, in_flight: int, tell: Tell
) -> None:
    async with connect() as client:
        await Running(client, find_work(source.rows(shape), one), one, in_flight, tell).run()


def _so_far(out: Path, tally: Tally, total: int) -> str:
    return f"{out} has {tally.total:,} of {total:,} rows."


def _print(tally: Tally, out: Path, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        summary = {"rows": tally.total, "statuses": dict(tally.by_status), "cost": round(tally.cost, 9)}
        show(msgspec.json.encode(summary).decode())
    elif not quiet:
        note(f"{out}: {describe(tally)}")
        if tally.bad:
            note("Run the failed rows once more: the same command with --retry-failed")
