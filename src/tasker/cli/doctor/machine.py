"""Checks of this machine: the disk's fsync, the clock, the model, the task files, child processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from tasker.cli.doctor.findings import Finding, ok, problem, warning
from tasker.cli.doctor.store import existing
from tasker.config.settings import Settings

_WRITES = 15
_TOO_FAST, _SLOW = 0.00005, 0.03
"""Seconds of an fsync: below, nothing can have reached a disk; above, each group of submissions waits for it."""
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
_NETWORK = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs")
_UNSYNCHRONIZED = 5
"""What adjtimex(2) returns while nothing sets the clock."""


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Check that the data folder's disk keeps what it is given: on it rests that accepted tasks are not lost."""
    if settings.database_url is not None:
        return
    folder = existing(settings.data_dir)
    kind = _file_system(folder)
    if kind in _IN_MEMORY:
        yield warning("disk", f"{folder} is in memory ({kind})", "a restart of the machine loses all: use a disk")
    elif kind.startswith(_NETWORK):
        yield problem("disk", f"{folder} is on {kind}, whose locks SQLite cannot trust", "use a local disk")
    try:
        took = _time_fsync(folder)
    except OSError as error:
        yield problem("fsync", f"nothing can be written to {folder}: {error.strerror}", "see TASKER_DATA_DIR")
        return
    detail = f"{took * 1000:,.2f} ms at {folder}"
    if took < _TOO_FAST and kind not in _IN_MEMORY:
        yield warning("fsync", f"{detail}: too quick for a disk", "is it ignored? A power cut would lose tasks")
    elif took > _SLOW:
        yield warning("fsync", f"{detail}: slow", "submissions wait that long: use a faster disk")
    else:
        yield ok("fsync", detail)


def _time_fsync(folder: Path) -> float:
    """Return the usual time of an fsync in seconds."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".tasker-doctor-") as file:
        for _ in range(_WRITES):
            file.write(os.urandom(4096))
            file.flush()
            begun = perf_counter()
            os.fsync(file.fileno())
            times.append(perf_counter() - begun)
    return median(times)


def _file_system(folder: Path) -> str:
    import psutil

    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    resolved = folder.resolve()
    return next((mounts[place] for place in (resolved, *resolved.parents) if place in mounts), "")


def check_clock(_: Settings) -> Iterator[Finding]:
    """Check that something sets the clock, as far as the system says so."""
    if not sys.platform.startswith("linux"):
        return
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))  # zeros: it changes nothing
    except (OSError, AttributeError):
        return
    if state == _UNSYNCHRONIZED:
        yield warning("clock", "nothing keeps this machine's clock right", "run an NTP service (chrony, timesyncd)")
    elif state >= 0:
        yield ok("clock", "kept right by NTP")


def check_model(settings: Settings) -> Iterator[Finding]:
    """Check that `gpt` has what it needs. No key is shown."""
    from tasker.builtin.gpt.local_model import find_model, is_installed
    from tasker.builtin.gpt.task import describe

    detail = describe(settings.gpt).removeprefix("gpt: ")
    wants_key = settings.gpt.provider == "openai" and settings.gpt.api_key is None
    wants_model = settings.gpt.provider == "local" and (find_model() is None or not is_installed())
    if wants_key:
        yield problem("model", "TASKER_GPT_PROVIDER is openai, and there is no key", "set OPENAI_API_KEY")
    elif wants_model or detail.startswith("not set up"):
        state = problem if wants_model else warning
        yield state("model", "`gpt` has no model", "set OPENAI_API_KEY, or run `tasker model install`")
    else:
        yield ok("model", detail)


def check_tasks(settings: Settings) -> Iterator[Finding]:
    """Check that the task files can be loaded."""
    from tasker.builtin import builtin_registry
    from tasker.errors import NoSuchTarget
    from tasker.tasktypes.registry import load, load_entry_points

    registry = builtin_registry(settings.gpt)
    built_in = len(registry)
    missing = None
    with contextlib.redirect_stdout(sys.stderr):  # what they print is no finding
        try:
            load(registry, settings.tasks)
        except NoSuchTarget as error:
            missing = problem("tasks", str(error), "correct TASKER_TASKS, or the file's name")
        load_entry_points(registry)
    if missing is not None:
        yield missing
    for fault in registry.faults:
        yield problem("tasks", fault.detail, "correct the file")
    names = registry.names()[built_in:]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    yield ok("tasks", f"{', '.join(names[:10])}{more}" if names else "only the built-in types")


def check_children(settings: Settings) -> Iterator[Finding]:
    """Check that a child process starts, which `def` tasks need."""
    import asyncio

    from tasker.executor.pool import CannotStart

    begun = perf_counter()
    try:
        asyncio.run(_start_child(settings))
    except (CannotStart, TimeoutError) as error:
        yield problem("child processes", f"none starts: {error}", "`def` tasks cannot run: see the message")
    else:
        yield ok("child processes", f"start in {perf_counter() - begun:.1f} s; {settings.processes} run at once")


async def _start_child(settings: Settings) -> None:
    import asyncio
    import logging

    from tasker.config.settings import SECRET_VARIABLES
    from tasker.executor.pool import Pool
    from tasker.executor.process import ChildSpec

    spec = ChildSpec(
        targets=settings.tasks, max_result=int(settings.max_result), log_level=logging.WARNING, secrets=SECRET_VARIABLES
    )
    pool = Pool(spec, size=1, max_attempts=1, max_memory=None)
    try:
        async with asyncio.timeout(30):
            pool.release(await pool.acquire(), leftovers=False)
    finally:
        await pool.close()
