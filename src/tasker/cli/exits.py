"""The exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; scripts rely on them."""

    OK = 0
    TASK_FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNREACHABLE = 5
    CONFLICT = 6
    OUTPUT = 7
    FORCED = 70  # only of a service: `shutdown.FORCED`
    AWAITS_RESTART = 75  # EX_TEMPFAIL of sysexits.h
    WAIT_TIMED_OUT = 124
    INTERRUPTED = 130
    READER_GONE = 141  # 128 + 13, as shells report a program that SIGPIPE has ended
