"""Processes as the kernel sees them: their memory, their end, and whether memory ran out. On the service's side."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from functools import cache
from pathlib import Path

import psutil

_PEAK = re.compile(rb"^VmHWM:\s*([0-9]+) kB$", re.MULTILINE)
_OOM_KILLS = re.compile(rb"^oom_kill ([0-9]+)$", re.MULTILINE)
_OOM_FILES = ("memory.events", "memory.oom_control")


def kill_tree(pid: int) -> None:
    """Kill the process group `pid` leads and every descendant of it, also those that left the group.

    Each is stopped first, so that none can start another during the search. `pid` must not have been waited for.
    """
    _signal_group(pid, signal.SIGSTOP)
    stopped: set[psutil.Process] = set()
    while found := _descendants(pid) - stopped:
        for process in found:
            _signal(process, signal.SIGSTOP)
        stopped |= found
    kill_group(pid)
    for process in stopped:
        _signal(process, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """Kill the process group that `pid` leads."""
    _signal_group(pid, signal.SIGKILL)


def resident_memory(pid: int) -> int:
    """Return the bytes of memory that a process and its descendants hold, 0 if it has ended."""
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return 0
    return _resident(root) + sum(map(_resident, _descendants(pid)))


def peak_memory(pid: int) -> int | None:
    """Return the most bytes that a process has held; None where that is not reported."""
    kilobytes = _find_number(_PEAK, Path(f"/proc/{pid}/status"))
    return None if kilobytes is None else kilobytes * 1024


def count_oom_kills() -> int | None:
    """Return how many processes the kernel has killed for lack of memory, None if unknown.

    Counts those of this process's control group, or else of the whole system.
    """
    file = _oom_counter()
    return None if file is None else _find_number(_OOM_KILLS, file)


@cache
def _oom_counter() -> Path | None:
    """Return the file with the count: cgroup v2, v1, or the whole system's (proc_vmstat(5))."""
    folders = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        groups = [line.split(":", 2)[2].lstrip("/") for line in lines]
    except (OSError, IndexError):
        groups = []
    files = [folder / group / name for group in groups for folder in folders for name in _OOM_FILES]
    return next((file for file in [*files, Path("/proc/vmstat")] if _find_number(_OOM_KILLS, file) is not None), None)


def _find_number(pattern: re.Pattern[bytes], file: Path) -> int | None:
    """Return the first match in a file of /proc or /sys; None if it cannot be read or has none."""
    try:
        found = pattern.search(file.read_bytes())
    except OSError:  # the process has ended, or this is no Linux
        return None
    return None if found is None else int(found[1])


def _descendants(pid: int) -> set[psutil.Process]:
    if not _may_have_children(pid):
        return set()
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _may_have_children(pid: int) -> bool:
    """Ask the kernel about this process alone (proc_pid_task(5)): psutil reads through every process of the machine."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as children:
                if children.read(1):
                    return True
    except OSError:  # a thread has ended meanwhile, or the kernel does not report it
        return True
    return False


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):  # it has ended meanwhile, or belongs to another user (setuid)
        process.send_signal(number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
