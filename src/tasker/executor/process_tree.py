"""A child process and all that it has started: how much memory they hold, and their end."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil


def kill_tree(pid: int) -> None:
    """Kill the process group `pid` leads and every descendant of it, also those that left the group.

    Each is stopped first, so that none can start another while they are looked for. `pid` must not have been waited
    for.
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
    except OSError:  # a thread has ended meanwhile, or the kernel does not tell
        return True
    return False


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):  # it has ended meanwhile, or belongs to somebody else (setuid)
        process.send_signal(number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
