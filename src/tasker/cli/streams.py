"""Standard streams that fail in a way of their own: data that cannot be written ends the command, a note never does.

A file descriptor that was closed (`>&-`) stays taken: otherwise the next file or connection would get its number, and
what is printed would go there.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

_TAKEN_BY = ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))
"""Reading from the first and writing to the second fails, as it does while they are closed; notes go nowhere."""


class OutputError(Exception):
    """What the command prints cannot be written; the message says why."""


class ReaderGone(OutputError):
    """Whoever read the output has ended (`tasker ls | head -1`)."""


def guard_streams() -> None:
    """Replace the standard streams of this process by ones that fail as this module says."""
    for descriptor, flags in _TAKEN_BY:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # it gets the lowest number that is free, which is this one
    out, err = sys.stdout, sys.stderr
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = _Output(
        io.BufferedWriter(_Data(1, "w", closefd=False)), encoding=out.encoding if out else "utf-8",
        errors=out.errors if out else "strict", line_buffering=out is not None and out.isatty(),
    )  # fmt: skip
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Notes(2, "w", closefd=False)), encoding=err.encoding if err else "utf-8",
        errors="backslashreplace", line_buffering=True,
    )  # fmt: skip


def drop_output() -> None:
    """Throw away what is not written yet, so that the end of the process does not try it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


class _Data(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise ReaderGone(str(error)) from None
        except OSError as error:
            why = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OutputError(f"standard output: {why}; what was printed is not whole") from None


class _Notes(io.FileIO):
    """A full disk or a closed terminal takes no notes and no log; a service goes on without."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


class _Output(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except UnicodeEncodeError as error:
            raise OutputError(
                f"standard output: expected characters of {self.encoding}, got {text[error.start]!a};"
                " set PYTHONIOENCODING=utf-8"
            ) from None
