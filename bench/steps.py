"""Steps, children and parked tasks beside DBOS, on its SQLite and on its PostgreSQL."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from bench import fill, load
from bench.measures import KIB, Plan, ratio
from bench.report import Row
from bench.servers import ROOT, Peer, Server, Store, python, running
from bench.stores import PostgreSQL, postgresql

TYPES = str(ROOT / "bench" / "step_types.py")
STEPS, CHILDREN, PARKED = 1000, 1000, 10_000
PARK = load.post("/task", b'{"type":"parked","params":[]}')
IDLE = 5
"""Seconds over which the idle service is measured."""
WARM = 20
WITHIN = 300
"""Seconds that a workflow may take."""


def _serve(port: int, *more: str) -> list[str]:
    return python("-m", "tasker", "serve", "--port", str(port), *more, TYPES)


def _uvicorn(port: int) -> list[str]:
    return python("-m", "uvicorn", "bench.peers.dbos_fastapi:app", "--host", load.HOST, "--port", str(port),
                  "--log-level", "warning")  # fmt: skip


TASKER = Peer("tasker", lambda port, folder: [_serve(port, "--data-dir", str(folder))])
TASKER_SHARED = Peer("tasker", lambda port, _: [_serve(port, "--no-worker"), python("-m", "tasker", "worker", TYPES)])
DBOS = Peer("DBOS", lambda port, _: [_uvicorn(port)])


class _Ended(msgspec.Struct):
    """The fields that are read of a task."""

    status: str
    result: float | None = None
    started_at: datetime | None = None


class _Queues(msgspec.Struct):
    items: list[dict[str, Any]]


@dataclass
class _Taken:
    """The rounds of one server: seconds and microseconds of processor time, for each step or child."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def _run(server: Server, name: str, count: int) -> _Ended:
    """Run a task of this type to its end."""
    body = f'{{"type":"{name}","params":{"[]" if name == "parked" else f"[{count}]"}}}'.encode()
    [task_id] = load.submit_for(server.port, load.post("/task", body), seconds=5, connections=1, limit=1).task_ids
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        seen = msgspec.json.decode(load.fetch(server.port, f"/task/{task_id}?wait=10"), type=_Ended)
        if seen.status not in ("pending", "running"):
            break
    if seen.status != "completed":
        raise load.LoadError(f"{name} is {seen.status} after {WITHIN} s")
    return seen


def _run_theirs(server: Server, name: str, count: int) -> None:
    load.fetch(server.port, f"/run/{name}/{count}", patience=WITHIN)


def _take(server: Server, run: Callable[[], object], count: int, taken: _Taken) -> None:
    used, begun = server.cpu_seconds(), time.perf_counter()
    run()
    taken.seconds.append((time.perf_counter() - begun) / count)
    taken.cpu.append((server.cpu_seconds() - used) / count * 1e6)


def _rounds(plan: Plan, database: PostgreSQL | None, name: str, count: int) -> dict[Peer, _Taken]:
    """Run the workflow on both servers in turn, as often as the plan says, after a short one that does not count."""
    runs = {TASKER_SHARED if database else TASKER: _run, DBOS: _run_theirs}
    taken = {peer: _Taken() for peer in runs}
    for _ in range(plan.rounds):
        for peer, run in runs.items():
            with _store(database) as store, running(peer, plan.disk, store=store) as server:
                run(server, name, WARM)
                _take(server, functools.partial(run, server, name, count), count, taken[peer])
    return taken


@contextlib.contextmanager
def _store(database: PostgreSQL | None) -> Iterator[Store | None]:
    if database is None:
        yield None
    else:
        with database.fresh() as store:
            yield store


def _compare(plan: Plan, database: PostgreSQL | None, bar: float) -> list[Row]:
    where = "PostgreSQL" if database else "SQLite"
    rows = []
    for name, count, least in (("steps", STEPS, bar), ("children", CHILDREN, 10.0)):
        ours, theirs = _rounds(plan, database, name, count).values()
        detail = f"{_each(ours)}; DBOS {_each(theirs)}"
        rows += [
            Row(f"{count:,} {name} on {where} / DBOS", ratio(theirs.seconds, ours.seconds), bar=least, detail=detail),
            Row(
                f"  processor time of each, {name} on {where} / DBOS",
                ratio(ours.cpu, theirs.cpu),
                "x",
                1 / 3,
                "at most",
            )
            if name == "steps"
            else Row(f"  processor time of each, {name} on {where} / DBOS", ratio(ours.cpu, theirs.cpu)),
        ]
    return rows


def _each(taken: _Taken) -> str:
    return f"{1 / statistics.median(taken.seconds):,.0f}/s, {statistics.median(taken.cpu):,.0f} us of CPU each"


def steps(plan: Plan) -> list[Row]:
    """Steps one after the other, and children that do nothing, from the submission to the result."""
    with postgresql() as database:
        return [*_compare(plan, None, 4), *_compare(plan, database, 2)]


def parked(plan: Plan) -> list[Row]:
    """Many tasks that sleep for a day: memory and processor time of each; and a task that resumes after many steps."""
    with running(TASKER, plan.disk) as server:
        _run(server, "steps", WARM)
        before = server.rss()
        begun = load.submit_for(server.port, PARK, seconds=600, limit=PARKED)
        if len(begun.task_ids) != PARKED:
            raise load.LoadError(f"tasks to park: {begun.errors.most_common(3)}")
        _await_parked(server)
        grown = (server.rss() - before) / PARKED
        used = server.cpu_seconds()
        time.sleep(IDLE)
        idle = (server.cpu_seconds() - used) / IDLE * 1000
        resumed = _run(server, "resumed", STEPS)
    assert resumed.result is not None
    assert resumed.started_at is not None
    took = (resumed.result - resumed.started_at.timestamp()) * 1000
    return [
        Row(f"{PARKED:,} parked tasks: memory each", grown / KIB, "KB", 2, "at most"),
        Row("  processor time of all of them", idle, "ms/s", detail=f"of the idle service, over {IDLE} s"),
        Row(f"a task with {STEPS:,} steps goes on after", took, "ms", 50, "at most", "from the attempt's start"),
    ]


def _await_parked(server: Server) -> None:
    """Wait until no task runs, and none waits for its turn."""
    deadline = time.monotonic() + WITHIN
    while fill.has_task(server.port, "running") or _pending(server) < PARKED:
        if time.monotonic() > deadline:
            raise load.LoadError("not all tasks are parked")
        time.sleep(0.5)


def _pending(server: Server) -> int:
    """Return how many tasks wait for a time."""
    queues = msgspec.json.decode(load.fetch(server.port, "/queue"), type=_Queues)
    return sum(queue.get("scheduled", 0) for queue in queues.items)


MEASURES = {"steps": steps, "parked": parked}
