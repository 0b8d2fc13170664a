"""What a child writes past Python's files: native code, os.write(), and the programs that it starts.

It comes by a pipe, and becomes log lines of the task that runs, as what the task prints does.
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
"""Seconds between reads of AT_ONCE bytes: who writes more has to wait, and the service's loop has not."""
_MOST_TO_TELL = 2 * AT_ONCE
"""Bytes whose lines `drain` tells: more than a pipe holds, unless the child has enlarged it."""
_MOST_TO_DRAIN = 1 << 20
"""Bytes that `drain` takes; the lines behind _MOST_TO_TELL are only counted, which takes no time to speak of."""


class RawOutput:
    """Reads the pipe under descriptors 1 and 2 of a child. take: is given each line; a child's listener changes."""

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
        """Take what has been written so far, the last line also without its end."""
        for place in range(0, _MOST_TO_DRAIN, AT_ONCE):
            take = self._tell_lines if place < _MOST_TO_TELL else self._drop_lines
            if not self._is_open or self._read(take) < AT_ONCE:
                break
        if self._rest:
            rest, self._rest = self._rest, b""
            self._tell(rest)
        if dropped := self._rate.confess():
            self._take(Line(logging.WARNING, "tasker", dropped))

    def close(self) -> None:
        """Let go of the pipe. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._descriptor, self._on_readable)

    def _on_readable(self) -> None:
        if self._read(self._tell_lines) == AT_ONCE and self._is_open:
            self._loop.remove_reader(self._descriptor)
            self._loop.call_later(PAUSE, self._resume)

    def _read(self, take: Callable[[bytes], bytes]) -> int:
        """Read once, and return how many bytes there were; at the end of the pipe close it.

        take: is given what there is, and returns what is behind the last line end.
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
            self._tell(rest)
        return len(data)

    def _tell_lines(self, data: bytes) -> bytes:
        """Tell line by line, until there are too many: 64 KiB of line ends would keep the loop busy for long."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            is_told = self._tell(data[start:end])
            start = end + 1
            if not is_told:
                return self._drop_lines(data[start:])
        return data[start:]

    def _drop_lines(self, data: bytes) -> bytes:
        self._rate.drop(data.count(b"\n"))
        return data[data.rfind(b"\n") + 1 :]

    def _tell(self, line: bytes) -> bool:
        """Tell a line, or count it as dropped; return which."""
        if not self._rate.take():
            return False
        if dropped := self._rate.confess():
            self._take(Line(logging.WARNING, "tasker", dropped))
        text = line[:PIECE].decode("utf-8", "backslashreplace")
        self._take(Line(logging.INFO, "process", text if len(line) <= PIECE else text + "..."))
        return True
