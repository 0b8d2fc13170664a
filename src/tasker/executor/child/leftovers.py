"""Find what an attempt has left running or open. None of it can be ended or closed safely."""

from __future__ import annotations

import _thread
import gc
import os
import threading
import time

END_WITHIN = 0.1
"""Seconds that threads get to end by themselves, after a pool was shut down without waiting, say."""
MANY_FILES = 100
"""Limit of the files that attempts may leave open: connections and models are kept on purpose."""


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


class Threads:
    """Python threads besides the main one. `take` accepts those that run now: the tasks' modules started them."""

    def take(self) -> None:
        self._own = set(threading.enumerate())
        self._count = _thread._count()

    def left(self) -> list[str]:
        """Name the threads that still run."""
        if _thread._count() <= self._count:
            return []
        deadline = time.monotonic() + END_WITHIN
        while _thread._count() > self._count and time.monotonic() < deadline:
            time.sleep(END_WITHIN / 50)
        if _thread._count() <= self._count:
            return []
        names = sorted(thread.name for thread in set(threading.enumerate()) - self._own)
        return [f"a thread that goes on ({', '.join(names[:5]) or 'without a name'})"]


class OpenFiles:
    """Open descriptors. Unreferenced files are closed; up to MANY_FILES others stay open.

    A child is replaced when one of them holds a lock that excludes others, or when they have become many.
    """

    def __init__(self) -> None:
        self._folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        self._is_counted = os.fstat(self._folder).st_size > 0  # by the kernel, since Linux 6.2

    def take(self) -> None:
        self._own = self._open()
        self._clean = self._count = self._measure()

    def left(self) -> list[str]:
        """Name the files that must not stay open."""
        count = self._measure()
        if count > self._count:
            gc.collect()
            count = self._measure()
            if count - self._clean > MANY_FILES:
                return [f"{count - self._clean:,} open files"]
            if count > self._count and any(map(_is_locked, self._open() - self._own)):
                return ["a locked file"]
        self._count = count
        return []

    def _open(self) -> set[str]:
        """Return the descriptors, except the one that this listing itself opens."""
        return {name for name in os.listdir(self._folder) if os.path.lexists(f"/proc/self/fd/{name}")}

    def _measure(self) -> int:
        return os.fstat(self._folder).st_size if self._is_counted else len(os.listdir(self._folder))


def _is_locked(descriptor: str) -> bool:
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as info:
            return any(line.startswith(b"lock:") and b" WRITE " in line for line in info)
    except OSError:  # it has been closed meanwhile
        return False
