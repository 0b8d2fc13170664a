"""How far a batch is: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasker.cli.batch.results import Tally
from tasker.cli.terminal import has_cursor

Tell = Callable[[Tally], None]
_A_SECOND = 4
"""Updates of the terminal."""


@contextmanager
def show_progress(total: int, *, quiet: bool) -> Iterator[Tell]:
    """Yield what takes the tally so far, and shows it on a terminal: rows, rate, time left, cost."""
    if quiet or not has_cursor(sys.stderr):
        yield lambda tally: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(compact=True)
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, refresh_per_second=_A_SECOND, transient=True) as progress:
        bar = progress.add_task("rows", total=total, figures="")
        begin, before = time.monotonic(), None

        def tell(tally: Tally) -> None:
            nonlocal before
            if before is None:  # what an earlier command has done
                before = tally.total
            rate = (tally.total - before) / max(time.monotonic() - begin, 0.001)
            progress.update(bar, completed=tally.total, figures=_figures(tally, rate))

        yield tell


def _figures(tally: Tally, rate: float) -> str:
    figures = [f"{rate:,.1f}/s"]
    figures += [f"{tally.bad:,} failed"] if tally.bad else []
    figures += [f"{tally.cost:,.4f} USD"] if tally.cost else []
    return ", ".join(figures)


def describe(tally: Tally) -> str:
    """Return how many rows ended in which way, and the cost."""
    parts = [f"{count:,} {status}" for status, count in sorted(tally.by_status.items())]
    return ", ".join(parts or ["no rows"]) + (f"; {tally.cost:,.4f} USD" if tally.cost else "")
