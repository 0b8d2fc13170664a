"""Records of tasks as lines: aligned on a terminal, elsewhere with tabs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasker.cli.times import local

if TYPE_CHECKING:
    from tasker.client import Event
    from tasker.wire.events import LogEntry


def describe_log(entry: LogEntry | Event) -> str:
    """Return a record of a log as a line."""
    from tasker.cli.service import to_text

    fields = f" {to_text(entry.fields)}" if entry.fields else ""
    return to_columns((local(entry.time), f"{entry.level or '':<7}", f"{entry.message or ''}{fields}"))


def to_columns(cells: Sequence[str]) -> str:
    """Return cells as a line for standard output."""
    if sys.stdout.isatty():
        return "  ".join(cells)
    return "\t".join(cell.strip().replace("\t", " ").replace("\n", " ") for cell in cells)
