"""How often the kernel has killed a process for lack of memory."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_COUNT = re.compile(rb"^oom_kill ([0-9]+)$", re.MULTILINE)


def count_oom_kills() -> int | None:
    """Return how many were killed so far, of this process's control group or else of the system; None if unknown."""
    file = _counter()
    try:
        found = None if file is None else _COUNT.search(file.read_bytes())
    except OSError:
        return None
    return None if found is None else int(found[1])


@cache
def _counter() -> Path | None:
    """Return the file with the count: cgroup v2, v1, or the whole system's (proc_vmstat(5))."""
    folders = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        groups = [line.split(":", 2)[2].lstrip("/") for line in lines]
    except (OSError, IndexError):
        groups = []
    files = [folder / group / name for group in groups for folder in folders for name in _NAMES]
    return next((file for file in [*files, Path("/proc/vmstat")] if _has_count(file)), None)


_NAMES = ("memory.events", "memory.oom_control")


def _has_count(file: Path) -> bool:
    try:
        return _COUNT.search(file.read_bytes()) is not None
    except OSError:
        return False
