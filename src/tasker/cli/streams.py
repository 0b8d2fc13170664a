"""Standard streams with failures of their own: data that cannot be written ends the command, a note never does.

A closed file descriptor (`>&-`) is opened on /dev/null: otherwise the next file or connection would get its number, and
would receive what is printed.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

_REPLACED_BY = ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))
"""Reading from 0 and writing to 1 fail, as they do while these are closed; notes to 2 are dropped."""


class OutputError(Exception):
    """The output of the command cannot be written; the message says why."""


class ReaderGone(OutputError):
    """The reader of the output has ended (`tasker ls | head -1`)."""


def guard_streams() -> None:
    """Replace the standard streams of this process by streams that fail as this module says."""
    for descriptor, flags in _REPLACED_BY:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # it gets the lowest free number, which is this one
    out, err = sys.stdout, sys.stderr
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = _Output(
        io.BufferedWriter(_Data(1, "w", closefd=False)),
        encoding=out.encoding if out else "utf-8",
        errors=out.errors if out else "strict",
        line_buffering=out is not None and out.isatty(),
    )
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Notes(2, "w", closefd=False)),
        encoding=err.encoding if err else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def drop_output() -> None:
    """Discard what is not written yet, so that the end of the process does not try to write it again."""
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
            raise OutputError(f"standard output: {why}; the output is not complete") from None


class _Notes(io.FileIO):
    """Ignores failures: with a full disk or a closed terminal, a service goes on without notes and logs."""

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
