"""In a child: die with the service, together with everything the task has started.

The service holds the other end of a pipe and never writes to it. When the service ends, however it ends, the kernel
sends SIGKILL to the child's whole process group (F_SETSIG, fcntl(2)). PR_SET_PDEATHSIG would reach the child alone and
often before the pipe closes, so that what it had started lived on.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal

F_SETSIG = 10  # Linux; the fcntl module does not name it
PR_SET_CHILD_SUBREAPER = 36


def arm(lifeline: int) -> None:
    """Have the process group of this process killed when the last writer of the pipe `lifeline` is gone."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # the service ended before the pipe was armed
        os.killpg(0, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of this process's orphaned descendants (prctl(2)), so that double forks can be found."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prefer_for_oom_kill() -> None:
    """When memory runs out, let the kernel take this process, not the service."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:  # a container may forbid it: then the kernel's own choice stands
        pass


class OwnChildren:
    """Whether this process has children, alive or not yet waited for; leaves them as they are."""

    def __init__(self) -> None:
        pid = os.getpid()
        try:  # quicker than waitid, which raises where there are none
            self._list: int | None = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
        except OSError:
            self._list = None

    def exist(self) -> bool:
        if self._list is not None:
            return bool(os.pread(self._list, 1, 0))
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True
