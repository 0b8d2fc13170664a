"""A store of ten million ended tasks: how long its lists take, and how fast it takes tasks while a list is read."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

from bench import fill, load
from bench.measures import NOOP, Plan, Taken, burst, ratio
from bench.report import Row
from bench.servers import TASKER, running, temporary_folder

_COUNT = 10_000_000
_QUICK_COUNT = 1_000_000
_AGAIN = 9
_WARM_MS, _COLD_MS = 50, 250
_SCAN = "/task?tag=import&status=failed&type=rare"
"""A list that matches nothing: a client that reads all of it makes one look after the other."""
_ROUNDS = 3


def lists(plan: Plan) -> list[Row]:
    """The slowest list warm and cold: by status, type, queue, tag, owner and time, alone and together."""
    count = _COUNT if plan.rounds > 1 else _QUICK_COUNT
    with temporary_folder(plan.disk) as full:
        fill.history(full, count)
        took = measure(full, plan.disk)
        beside = _beside_a_scan(plan, full)
    warm = {query: median(times[1:]) for query, times in took.items()}
    cold = {query: times[0] for query, times in took.items()}
    return [
        _row(f"slowest list of {count:,} tasks, warm", warm, _WARM_MS),
        _row("the same, cold", cold, _COLD_MS),
        *beside,
    ]


def _beside_a_scan(plan: Plan, full: Path) -> list[Row]:
    """No-op tasks in the full store while a client reads a whole list, against an empty store that nobody reads."""
    ours, empty = Taken(), Taken()
    for _ in range(min(plan.rounds, _ROUNDS)):
        with running(TASKER, plan.disk) as server:
            burst(server, NOOP, plan.seconds, empty)
        with running(TASKER, plan.disk, folder=full) as server, _reading(server.port) as looks:
            burst(server, NOOP, plan.seconds, ours)
    detail = f"{len(looks)} looks in the last round"
    return [
        Row(
            "submit beside a scan / in an empty store", ratio(ours.submitted, empty.submitted), bar=0.95, detail=detail
        ),
        Row("end to end beside a scan / in an empty store", ratio(ours.completed, empty.completed), bar=0.95),
        Row("  processor time of a task, the same", ratio(ours.cpu, empty.cpu), detail="with that of the scan"),
    ]


@contextlib.contextmanager
def _reading(port: int) -> Iterator[list[Any]]:
    """Read a list page by page, again and again, until the block ends; yield the answers."""
    answers: list[Any] = []
    ends = threading.Event()

    def read() -> None:
        cursor = ""
        while not ends.is_set():
            answers.append(json.loads(load.fetch(port, _SCAN + (f"&cursor={cursor}" if cursor else ""))))
            cursor = answers[-1]["next_cursor"]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield answers
    finally:
        ends.set()
        reader.join()
    if not answers:
        raise load.LoadError("the list was never read: this run says nothing about a scan")


def measure(full: Path, disk: Path) -> dict[str, list[float]]:
    """Return the times of each list in ms, the cold one first, of the store in a folder."""
    with running(TASKER, disk, folder=full) as server:
        return {query: _times(server.port, full, query) for query in queries()}


def _row(what: str, times: dict[str, float], bar: float) -> Row:
    slowest = max(times, key=lambda name: times[name])
    detail = f"{slowest}; median of all {median(times.values()):.1f} ms"
    return Row(what, times[slowest], "ms", bar, "at most", detail)


def queries() -> list[str]:
    """Return the lists to ask for: each filter alone, and those that no index answers together."""
    now = datetime.now(UTC)
    old, older = (now - timedelta(days=days) for days in (15, 15.1))
    filters: list[dict[str, str]] = [
        {}, {"status": "completed"}, {"status": "failed"}, {"status": "failed,cancelled"}, {"status": "pending"},
        {"type": "sum"}, {"type": "rare"}, {"type": "none"}, {"queue": "default"}, {"queue": "bulk"}, {"queue": "rare"},
        {"queue": "none"}, {"tag": "import"}, {"tag": "rare"}, {"tag": "none"}, {"owner": "alice"}, {"owner": "none"},
        {"created_before": old.isoformat()}, {"created_before": old.isoformat(), "type": "rare"},
        {"created_before": old.isoformat(), "created_after": older.isoformat()},
        {"tag": "import", "status": "failed"}, {"type": "sum", "tag": "import", "queue": "bulk"},
        {"type": "sum", "status": "cancelled", "owner": "alice"},
    ]  # fmt: skip
    return [urlencode(one) for one in filters]


def _times(port: int, folder: Path, query: str) -> list[float]:
    """Return the times of a list in ms: first with the file out of the system's cache, then again and again."""
    for file in folder.glob("tasker.db*"):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    times: list[float] = []
    for _ in range(1 + _AGAIN):
        begun = time.perf_counter()
        load.fetch(port, f"/task?{query}")
        times.append((time.perf_counter() - begun) * 1000)
    return times


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {"lists": lists}
