"""The first steps of a child process: make sure that it dies with the service, with all that the task has started.

The service holds the other end of a pipe, the lifeline, and never writes to it. When the service ends, however it
ends, the kernel sends SIGKILL to the child's whole process group (F_SETSIG, fcntl(2)). PR_SET_PDEATHSIG would reach
the child alone, often before the pipe closes, and what it had started would live on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal

F_SETSIG = 10  # Linux; the fcntl module does not name it
PR_SET_CHILD_SUBREAPER = 36


def die_with_service(lifeline: int) -> None:
    """Have the process group of this process killed when the last writer of the pipe `lifeline` is gone."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # the service ended before the pipe was set up
        os.killpg(0, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of this process's orphaned descendants (prctl(2)), so that double forks can be found."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prefer_for_oom_kill() -> None:
    """When memory runs out, let the kernel kill this process, not the service."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # a container may forbid it
        file.write("500")
