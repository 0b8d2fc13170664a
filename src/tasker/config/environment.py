"""Removes secrets from this process's environment, so that the code of tasks cannot read them there."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from pathlib import Path

_ENV_START, _ENV_END = 50, 51
"""Fields of /proc/PID/stat, counted from 1 (proc_pid_stat(5)): the addresses of a process's initial environment."""


def take_out(names: Collection[str]) -> None:
    """Remove variables from os.environ and, on Linux, from /proc/PID/environ of this process.

    A variable that is only unset is still shown there to every process of the same user, including a task's child.
    """
    for name in names:
        os.environ.pop(name, None)
    _wipe([name.encode() + b"=" for name in names])


def _wipe(prefixes: Collection[bytes]) -> None:
    """Overwrite the values that the kernel put into this process's memory when it started."""
    found = _first_environment()
    if found is None:
        return
    place, size = found
    for entry in ctypes.string_at(place, size).split(b"\0"):
        for prefix in prefixes:
            if entry.startswith(prefix):
                ctypes.memset(place + len(prefix), 0, len(entry) - len(prefix))
        place += len(entry) + 1


def _first_environment() -> tuple[int, int] | None:
    """Return the address and length of the initial environment; None if the system does not show them."""
    try:
        stat = Path("/proc/self/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 1 :].split()  # the second field, a name in brackets, may contain blanks
    start, end = (int(fields[number - 3]) for number in (_ENV_START, _ENV_END))
    return (start, end - start) if start else None
