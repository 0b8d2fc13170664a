"""What commands print and ask: tables, notes and questions, in the form that fits their stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from shutil import get_terminal_size
from typing import Self, TextIO

from tasker.logs.printing import escape, has_colours

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return `text` in an ANSI colour ("31", "2"...) where `stream` shows colours."""
    return f"\x1b[{colour}m{text}\x1b[0m" if has_colours(stream) else text


def has_cursor(stream: TextIO) -> bool:
    """Tell whether `stream` is a terminal on which a line can be written over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class PassingLine:
    """The last line of standard error, written over and over on a terminal; empty at the end of a `with`."""

    def __init__(self) -> None:
        self._is_shown = has_cursor(sys.stderr)

    def write(self, text: str) -> None:
        """Show `text` instead of what was there."""
        if self._is_shown:
            print(f"\r\x1b[K{printable(text)}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write("")


def printable(text: str) -> str:
    """Escape what could move a terminal's cursor; line ends and tabs stay."""
    return escape(text, keep="\n\t")


def note(text: str) -> None:
    """Print a message that is not data, to standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print data: as it is into a pipe or file, without control characters on a terminal."""
    print(printable(text) if sys.stdout.isatty() else text, flush=True)


def confirm(question: str, *, default: bool = True) -> bool:
    """Ask a question, with the answer to an empty line; without a terminal the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} {'[Y/n]' if default else '[y/N]'} ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return answer.strip().lower() in {"y", "yes"} or (default and answer == "\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, is_named: bool = False) -> None:
    """Print rows: on a terminal aligned, cut to its width, with a header; elsewhere tab-separated and complete.

    is_named: the header is printed elsewhere, too.
    """
    if not sys.stdout.isatty():
        for row in [header, *rows] if is_named else rows:
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    lines = [[printable(cell).replace("\n", " ") for cell in row] for row in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    limit = get_terminal_size().columns
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()[:limit]
        print(paint(text, "2", sys.stdout) if number == 0 else text)


def count_tasks(number: int) -> str:
    """Return `1 task`, `1,204 tasks`."""
    return f"{number:,} task{'s' * (number != 1)}"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago `moment` is, in the largest unit that fits: `5m ago`, `in 20s`."""
    seconds = round((now - moment) / timedelta(seconds=1))
    if seconds == 0:
        return "now"
    size, unit = next((size, unit) for size, unit in _UNITS if abs(seconds) >= size)
    return f"{abs(seconds) // size}{unit} ago" if seconds > 0 else f"in {abs(seconds) // size}{unit}"
