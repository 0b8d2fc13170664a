"""Send what a task prints and logs as frames, one per line, so that the service can name the task in its log."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from math import inf
from typing import Any, BinaryIO, cast

from tasker.executor.child.channel import Channel
from tasker.executor.frames import PIECE, Line
from tasker.executor.line_rate import LineRate

_AS_NEW = ("utf-8", "backslashreplace", True)


class OutputBudget:
    """How many characters an attempt may still report."""

    def __init__(self) -> None:
        self._left: float = inf

    def begin(self, max_output: int | None) -> None:
        """Start over, for the next attempt. None: no limit."""
        self._left = inf if max_output is None else max_output

    def spend(self, size: int) -> bool:
        """Count a report; return whether to send it. The first one over budget is sent, so that the service knows."""
        had_some_left = self._left >= 0
        self._left -= size
        return had_some_left


class Lines:
    """Sends lines, and drops those that come too fast: a loop that prints must not keep the service busy."""

    def __init__(self, channel: Channel, budget: OutputBudget) -> None:
        self._channel = channel
        self._rate = LineRate()
        self._budget = budget

    @property
    def is_open(self) -> bool:
        return self._channel.is_open

    def send(self, level: int, source: str, text: str) -> None:
        text = text if len(text) <= PIECE else text[:PIECE] + "..."
        if self._rate.take():
            self.report_dropped()
            if self._budget.spend(len(text)):
                self._channel.send(Line(level, source, text))

    def report_dropped(self) -> None:
        """Send a line that says how many were dropped, if any."""
        if notice := self._rate.take_notice():
            self._channel.send(Line(logging.WARNING, "tasker", notice))


class PrintedLines(io.RawIOBase):
    """The file under sys.stdout or sys.stderr. `fileno` is the real one, for the programs that a task starts."""

    def __init__(self, lines: Lines, source: str, descriptor: int) -> None:
        self._lines = lines
        self._source = source
        self._descriptor = descriptor
        self._rest = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: object, /) -> int:
        chunk = bytes(data)  # type: ignore[call-overload]
        if not self._lines.is_open:  # in a process that the task has forked
            return os.write(self._descriptor, chunk)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            self._send(line)
        if len(self._rest) > PIECE:
            self.end_line()
        return len(chunk)

    def end_line(self) -> None:
        """Send what was printed without an end of line."""
        rest, self._rest = self._rest, b""
        if rest:
            self._send(rest)

    def _send(self, line: bytes) -> None:
        self._lines.send(logging.INFO, self._source, line.decode("utf-8", "backslashreplace"))


class LogLines(logging.Handler):
    """The root handler: records go to the service with their level and logger."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record).encode("utf-8", "backslashreplace").decode("utf-8")
            self._lines.send(record.levelno, record.name, text)
        except Exception:  # logging's rule: a record that cannot be shown is reported, never raised
            self.handleError(record)


class Capture:
    """Replaces sys.stdout, sys.stderr and the root logger's handlers; checks that sys.stdin stays as it is, too.

    budget: counts what is printed, together with the attempt's other reports.
    """

    def __init__(self, channel: Channel, log_level: int) -> None:
        self.budget = OutputBudget()
        self._lines = Lines(channel, self.budget)
        self._stdin: Any = sys.stdin
        self.install()
        root = logging.getLogger()
        root.handlers[:] = [LogLines(self._lines)]
        root.setLevel(log_level)
        logging.captureWarnings(True)

    def install(self) -> None:
        """Set sys.stdout and sys.stderr to fresh files."""
        self._printed = [PrintedLines(self._lines, "stdout", 1), PrintedLines(self._lines, "stderr", 2)]
        self._buffers = [io.BufferedWriter(printed) for printed in self._printed]
        self._streams = [_text_file(cast(BinaryIO, buffer)) for buffer in self._buffers]
        sys.stdout, sys.stderr = self._streams
        # a task that restores the original streams restores our files
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]

    def reinstall(self) -> None:
        """Set all three to fresh files."""
        self.install()
        given = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        self._stdin = sys.stdin = sys.__stdin__ = given  # type: ignore[misc]

    def flush(self) -> bool:
        """Send what is still buffered: lines without an end, and how many were dropped.

        Return whether sys.stdin, stdout and stderr are still our files, as they were; if not, `reinstall` them.
        """
        is_intact = self._is_intact()
        if is_intact:
            for stream in self._streams:
                stream.flush()
        else:  # the task's own files may buffer something, as may our buffers inside its files
            for file in (sys.stdout, sys.stderr, *self._streams, *self._buffers):
                with contextlib.suppress(BaseException):  # it is closed, detached, or an object of the user's
                    file.flush()
        for printed in self._printed:
            printed.end_line()
        self._lines.report_dropped()
        return is_intact

    def _is_intact(self) -> bool:
        (out, err), given = self._streams, self._stdin
        if sys.stdout is not out or sys.stderr is not err or sys.stdin is not given:
            return False
        if sys.__stdout__ is not out or sys.__stderr__ is not err or sys.__stdin__ is not given:
            return False
        try:
            if out.closed or err.closed or self._stdin.closed:
                return False
            return _text_mode(out) == _text_mode(err) == _AS_NEW
        except ValueError:  # a buffer is detached
            return False


def _text_mode(stream: io.TextIOWrapper) -> tuple[str, str | None, bool]:
    return stream.encoding, stream.errors, stream.line_buffering


def _text_file(buffer: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
