"""The most memory that a process has held: the kernel keeps it, and can be told to begin anew (proc_pid_status(5))."""

from __future__ import annotations

import re

_PEAK = re.compile(rb"^VmHWM:\s*([0-9]+) kB$", re.MULTILINE)


def begin_anew() -> None:
    """Let this process's peak be what it holds now. Where the kernel does not take that, it stays what it was."""
    try:
        with open("/proc/self/clear_refs", "wb", buffering=0) as control:
            control.write(b"5")
    except OSError:
        pass


def peak_memory(pid: int | None = None) -> int | None:
    """Return the bytes that a process, by default this one, has held at most; None where that is not told."""
    try:
        with open(f"/proc/{'self' if pid is None else pid}/status", "rb", buffering=0) as status:
            found = _PEAK.search(status.read())
    except OSError:  # it has ended, or this is no Linux
        return None
    return None if found is None else int(found[1]) * 1024
