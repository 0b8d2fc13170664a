"""In a child: what the task prints and logs becomes frames, a line each, so that the service can name its task."""

from __future__ import annotations

import io
import logging
import os
import sys
import time

from tasker.executor.channel import Channel
from tasker.executor.frames import PIECE, Line

BURST = 2000
PER_SECOND = 500
_DROPPED = "{:,} lines dropped: more than " + f"{PER_SECOND} a second"


class Lines:
    """Sends lines, and drops what comes too fast: a loop that prints must not keep the service busy with its log."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._allowance = float(BURST)
        self._since = time.monotonic()
        self._dropped = 0

    @property
    def is_open(self) -> bool:
        return self._channel.is_open

    def send(self, level: int, source: str, text: str) -> None:
        if self._is_allowed():
            self.confess()
            self._channel.send(Line(level, source, text if len(text) <= PIECE else text[:PIECE] + "..."))
        else:
            self._dropped += 1

    def confess(self) -> None:
        """Say how many lines were dropped, if any."""
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._channel.send(Line(logging.WARNING, "tasker", _DROPPED.format(dropped)))

    def _is_allowed(self) -> bool:
        now = time.monotonic()
        self._allowance = min(BURST, self._allowance + (now - self._since) * PER_SECOND)
        self._since = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


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
    """Stands in for sys.stdout, sys.stderr and the root logger's handlers."""

    def __init__(self, channel: Channel, log_level: int) -> None:
        self._lines = Lines(channel)
        self._printed = [PrintedLines(self._lines, "stdout", 1), PrintedLines(self._lines, "stderr", 2)]
        self._streams = [_text_file(printed) for printed in self._printed]
        sys.stdout, sys.stderr = self._streams
        root = logging.getLogger()
        root.handlers[:] = [LogLines(self._lines)]
        root.setLevel(log_level)
        logging.captureWarnings(True)

    def flush(self) -> None:
        """Send what is still held back: unended lines, and how many were dropped."""
        for stream, printed in zip(self._streams, self._printed, strict=True):
            if not stream.closed:
                stream.flush()
                printed.end_line()
        self._lines.confess()


def _text_file(printed: PrintedLines) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(printed), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
