"""One line of a terminal about a task that runs: its status, or a bar once it tells of its progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasker.cli.terminal import printable
from tasker.logs.printing import escape

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from tasker.client import Event, Task
    from tasker.model import Progress


class StatusLine:
    """The last line of standard error, a terminal. `clear` it before anything else is written there."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._row: TaskID | None = None
        self._is_bar = False

    def glance(self, task: Task) -> None:
        """Show the status of a task; a bar stays as it is."""
        if not (self._is_bar and task.status == "running"):
            self.clear()
            _overwrite(describe_progress(task))

    def progress(self, type: str, event: Event) -> None:
        """Show what a task has told of its progress."""
        part, whole = _measure(event)
        if whole is None:
            self.clear()
            _overwrite(f"{type} {_describe_numbers(event)}")
            return
        if self._bar is None or self._row is None:
            self._bar = _make_bar()
            self._row = self._bar.add_task("", about="")
        self._bar.update(self._row, description=type, completed=part, total=whole, about=_describe_numbers(event))
        if self._is_bar:
            self._bar.refresh()
        else:
            _overwrite("")
            self._bar.start()
            self._is_bar = True

    def clear(self) -> None:
        """Leave the line empty."""
        if self._is_bar and self._bar is not None:
            self._bar.stop()
            self._is_bar = False
        else:
            _overwrite("")


def describe_progress(task: Task) -> str:
    """Return one line about the state of an open task."""
    reason = f" ({task.reason})" if task.reason else ""
    return f"{task.type} {task.status}{reason} {_describe_numbers(task.progress)}".rstrip()


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(),
        TextColumn("{task.fields[about]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _measure(event: Event) -> tuple[float, float | None]:
    """Return how much is done of how much; None if that is not known."""
    if event.fraction is not None:
        return event.fraction, 1.0
    if event.current is not None and event.total:
        return event.current, event.total
    return 0.0, None


def _describe_numbers(progress: Progress | Event | None) -> str:
    if progress is None:
        return ""
    fraction = "" if progress.fraction is None else f"{progress.fraction:.0%}"
    counted = "" if progress.current is None else f"{progress.current:g}"
    total = "" if progress.total is None else f"/{progress.total:g}"
    return escape(" ".join(part for part in (fraction, counted + total, progress.message or "") if part))


def _overwrite(text: str) -> None:
    print(f"\r\x1b[K{printable(text)}", end="", file=sys.stderr, flush=True)
