"""Output of a child that bypasses Python's files: from native code, os.write(), and programs that it starts.

It comes through a pipe, and is logged line by line for the running task, like what the task prints.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from tasker.executor.frames import PIECE, Line
from tasker.executor.line_rate import LineRate

AT_ONCE = 64 << 10
PAUSE = 0.005
"""Seconds between reads of AT_ONCE bytes: a child that writes more has to wait, and the service's loop does not."""
_MOST_TO_LOG = 2 * AT_ONCE
"""Limit of bytes that `drain` logs: more than a pipe holds, unless the child has enlarged it."""
_MOST_TO_DRAIN = 1 << 20
"""Limit of bytes that `drain` reads; lines beyond _MOST_TO_LOG are only counted, which takes hardly any time."""


class RawOutput:
    """Reads the pipe under descriptors 1 and 2 of a child. take: called with each line."""

    def __init__(self, descriptor: int, take: Callable[[Line], None]) -> None:
        self._descriptor = descriptor
        self._take = take
        self._rate = LineRate()
        self._rest = b""
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._resume()

    def drain(self) -> None:
        """Read what has been written so far, including an incomplete last line."""
        for position in range(0, _MOST_TO_DRAIN, AT_ONCE):
            take = self._pass_lines if position < _MOST_TO_LOG else self._drop_lines
            if not self._is_open or self._read(take) < AT_ONCE:
                break
        if self._rest:
            rest, self._rest = self._rest, b""
            self._pass(rest)
        self._report_dropped()

    def close(self) -> None:
        """Close the pipe. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._descriptor, self._on_readable)

    def _on_readable(self) -> None:
        if self._read(self._pass_lines) == AT_ONCE and self._is_open:
            self._loop.remove_reader(self._descriptor)
            self._loop.call_later(PAUSE, self._resume)

    def _read(self, take: Callable[[bytes], bytes]) -> int:
        """Read once and return the number of bytes; close the pipe at its end.

        take: called with the bytes; returns those behind the last line end.
        """
        try:
            data = os.read(self._descriptor, AT_ONCE)
        except BlockingIOError:
            return 0
        if not data:
            self.close()
            return 0
        self._rest = take(self._rest + data)
        if len(self._rest) > PIECE:
            rest, self._rest = self._rest, b""
            self._pass(rest)
        return len(data)

    def _pass_lines(self, data: bytes) -> bytes:
        """Pass on line by line, until there are too many: 64 KiB of line ends would keep the loop busy for long."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            was_passed = self._pass(data[start:end])
            start = end + 1
            if not was_passed:
                return self._drop_lines(data[start:])
        return data[start:]

    def _drop_lines(self, data: bytes) -> bytes:
        self._rate.drop(data.count(b"\n"))
        return data[data.rfind(b"\n") + 1 :]

    def _pass(self, line: bytes) -> bool:
        """Pass a line on and return True, or count it as dropped and return False."""
        if not self._rate.take():
            return False
        self._report_dropped()
        text = line[:PIECE].decode("utf-8", "backslashreplace")
        self._take(Line(logging.INFO, "process", text if len(line) <= PIECE else text + "..."))
        return True

    def _report_dropped(self) -> None:
        if notice := self._rate.take_notice():
            self._take(Line(logging.WARNING, "tasker", notice))
