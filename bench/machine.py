"""The machine of the figures: cores, processor, versions, and the time of a durable write."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import apsw

from bench.servers import temporary_folder

_PACKAGES = (
    "granian", "starlette", "msgspec", "apsw", "uvloop", "flask", "werkzeug", "gunicorn", "huey",
    "asyncpg", "pgqueuer", "fastapi", "uvicorn", "procrastinate", "celery", "redis",
)  # fmt: skip


def fdatasync_ms(disk: Path, writes: int = 300) -> float:
    """Return the median milliseconds of fdatasync after appending 4 KiB, as a small commit of SQLite's WAL does."""
    took: list[float] = []
    with temporary_folder(disk) as folder:
        file = os.open(folder / "probe", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for number in range(writes):
                os.pwrite(file, b"x" * 4096, number * 4096)
                start = time.perf_counter()
                os.fdatasync(file)
                took.append(time.perf_counter() - start)
        finally:
            os.close(file)
    return statistics.median(took) * 1000


def describe(disk: Path) -> dict[str, Any]:
    """Return the machine as a flat dict of texts and numbers."""
    return {
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "versions": _versions(),
        "fdatasync_ms": round(fdatasync_ms(disk), 3),
    }


def _versions() -> dict[str, str]:
    """Return the versions of the installed packages; a run of some measures does not need the others'."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cpu() -> str:
    """Return the processor's name as /proc/cpuinfo gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Return the measured commit, or "unknown" outside a repository; a plus sign marks changed files."""
    root = Path(__file__).parent.parent
    git = ["git", "-C", str(root)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], check=False).returncode
    return head.stdout.strip() + ("+" if changed else "")


def check() -> None:
    """Raise SystemExit if the benchmark would be meaningless on this machine."""
    if sys.platform != "linux":
        raise SystemExit("the benchmark needs Linux (epoll, CPU affinity)")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("the benchmark needs two cores: one for the server, one for the load")
