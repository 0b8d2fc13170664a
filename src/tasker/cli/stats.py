"""`tasker stats`: what happened to tasks lately, and how many are open."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output

if TYPE_CHECKING:
    from tasker.wire.stats import Happened, OpenTasks, Stats

_BARS = " ▁▂▃▄▅▆▇█"
_HEADER = ("PENDING", "RUNNING", "SUBMITTED", "COMPLETED", "FAILED", "CANCELLED", "RUN P50", "RUN P95", "WAIT P95")


def stats(
    *,
    window: Literal["15m", "1h", "24h", "7d", "30d"] = "1h",
    group: Literal["none", "type", "queue"] = "type",
    type: str | None = None,
    queue: str | None = None,
    owner: str | None = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show what happened to tasks in a window of time, and how many are open: counts, run and waiting times.

    In a pipe the first line names the columns.

    Parameters
    ----------
    window
        How far to look back.
    group
        What to tell apart.
    type
        Only tasks of this type.
    queue
        Only tasks of this queue.
    owner
        Only tasks of this owner.
    """
    from tasker.cli.service import to_json
    from tasker.cli.terminal import print_table, show

    with output.connect() as client:
        found = client.stats(window=window, group=group, type=type, queue=queue, owner=owner)
    if output.json:
        show(to_json(found))
        return Exit.OK
    rows = [(one.name, *_figures(one.total, one.open)) for one in found.items]
    header = ("NAME" if group == "none" else group.upper(), *_HEADER)
    print_table(header, [*rows, ("all", *_figures(found.total, found.open))], is_named=True)
    if sys.stdout.isatty():
        show("\n".join(_notes(found)))
    return Exit.OK


def _figures(total: Happened, open: OpenTasks) -> tuple[str, ...]:
    counts = open.pending + open.later, open.running, total.submitted, total.completed, total.failed, total.cancelled
    times = total.run.p50, total.run.p95, total.wait.p95
    return (*(str(count) for count in counts), *("-" if time is None else f"{time:.3g} s" for time in times))


def _notes(found: Stats) -> Iterator[str]:
    from tasker.cli.terminal import ago

    yield f"started {_chart(found.series.started)} in steps of {_duration(found.step)}"
    if found.open.oldest_due_at is not None:
        yield f"The longest-waiting task became due {ago(found.open.oldest_due_at, datetime.now(UTC))}."


def _chart(counts: Sequence[int]) -> str:
    """Return counts as bars of text, one character each."""
    most = max(counts, default=0) or 1
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)


def _duration(seconds: int) -> str:
    size, unit = next(((size, unit) for size, unit in ((3600, "h"), (60, "min")) if seconds % size == 0), (1, "s"))
    return f"{seconds // size} {unit}"
