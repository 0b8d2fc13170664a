"""Many worker processes on one database: what a task costs, a lone task, frozen workers, an idle fleet."""

from __future__ import annotations

import asyncio
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from bench import load
from bench.measures import NOOP, Plan, percentile, ratio, waited_sums
from bench.report import Row
from bench.scale.meter import database_seconds
from bench.scale.processes import with_workers
from bench.servers import PGQUEUER, PGQUEUER_API, PROCRASTINATE, PROCRASTINATE_API, Peer, Server, running
from bench.stores import PostgreSQL, postgresql

MANY, SOME = 16, 4
CURVE, PEERS_CURVE = (1, 4, 16, 64), (1, 4, 16)
_ROOM = "max_connections = 1000\n"
_ROUNDS = 3
"""Limit of the rounds: the processes of one take half a minute of processor time to start."""
_PLAIN_TASKS = 400
"""Tasks in a round of PgQueuer: one takes many times as long as one of ours."""
_LONE = 50
"""Lone tasks while the same workers are frozen."""
_SETTLES, _IDLE = 4.0, 10.0
_WITHIN = 120.0


@dataclass(frozen=True, eq=False)
class Fleet:
    """A peer with many workers. here, left: SQL that counts the workers that have started, and the open tasks."""

    peer: Peer
    workers: int
    here: str
    left: str
    limit: int | None = None
    """The most tasks to submit in a round."""


def _tasker(workers: int) -> Fleet:
    return Fleet(
        with_workers(workers),
        workers,
        here="SELECT count(*) FROM tasker.worker",
        left="SELECT count(*) FROM tasker.task WHERE status IN ('pending', 'running')",
    )


def _with_workers(peer: Peer, web: Peer, workers: int) -> Peer:
    """Return a peer's web server with this many of its workers."""

    def commands(port: int, folder: Path) -> list[list[str]]:
        *servers, worker = peer.commands(port, folder)
        return [*servers, *[worker] * workers]

    return Peer(f"{peer.name}, {workers} workers", commands, web.setup)


def _procrastinate(workers: int) -> Fleet:
    return Fleet(
        _with_workers(PROCRASTINATE, PROCRASTINATE_API, workers),
        workers,
        here="SELECT count(*) FROM procrastinate_workers",
        left="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
        limit=_PLAIN_TASKS,
    )


def _pgqueuer(workers: int) -> Fleet:
    """Each worker has nine connections, the web server eight."""
    return Fleet(
        _with_workers(PGQUEUER, PGQUEUER_API, workers),
        workers,
        here="SELECT count(*) / 9 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        left="SELECT count(*) FROM pgqueuer",
        limit=_PLAIN_TASKS,
    )


@contextmanager
def _started(plan: Plan, database: PostgreSQL, fleet: Fleet) -> Iterator[Server]:
    """Run a fleet whose workers have all started, and have run tasks."""
    ready_within = 30 + 5 * fleet.workers  # they all start at once, on one core
    with database.fresh() as store, running(fleet.peer, plan.disk, store=store, ready_within=ready_within) as server:
        _until(server, fleet.here, lambda count: count >= fleet.workers)
        time.sleep(2)  # every process has opened its pool
        _run(server, fleet, plan.seconds)
        yield server


def _run(server: Server, fleet: Fleet, seconds: float) -> list[str]:
    """Submit tasks over 64 connections, and wait until all have ended; return their ids."""
    result = load.submit_for(server.port, NOOP, seconds=seconds, limit=fleet.limit)
    if result.errors:
        raise load.LoadError(f"replies that are not accepted tasks: {result.errors.most_common(3)}")
    _until(server, fleet.left, lambda count: count == 0)
    return result.task_ids


def _until(server: Server, query: str, is_so: Callable[[int], bool]) -> None:
    """Ask the database until the count is as it must be. Raises LoadError if it takes too long."""

    async def ask() -> None:
        assert server.store is not None
        connection = await asyncpg.connect(server.store.env["DATABASE_URL"])
        try:
            deadline = time.monotonic() + _WITHIN
            while not is_so(count := await connection.fetchval(query)):
                if time.monotonic() > deadline:
                    raise load.LoadError(f"after {_WITHIN:g} s: {query}: {count}")
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    asyncio.run(ask())


def _processor_seconds(server: Server, processes: Sequence[subprocess.Popen[bytes]]) -> float:
    """Return the processor time so far of these processes and of the database."""
    assert server.store is not None
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(one.user + one.system for one in times) + database_seconds(server.store.pid)


def _cost(plan: Plan, database: PostgreSQL, fleet: Fleet) -> float:
    """Return the microseconds of processor time of a task: of the API, the workers and the database."""
    with _started(plan, database, fleet) as server:
        before = _processor_seconds(server, server.processes)
        task_ids = _run(server, fleet, plan.seconds)
        used = _processor_seconds(server, server.processes) - before
        load.wait_completed(server.port, task_ids, timeout=_WITHIN)
    return used / len(task_ids) * 1e6


def cost(plan: Plan) -> list[Row]:
    """The processor time of a no-op task over 64 connections, with 1, 4 and 16 workers, beside PgQueuer with 16."""
    one, some, many, plain = fleets = [_tasker(1), _tasker(SOME), _tasker(MANY), _pgqueuer(MANY)]
    taken: dict[Fleet, list[float]] = {fleet: [] for fleet in fleets}
    with postgresql(_ROOM) as database:
        for _ in range(min(plan.rounds, _ROUNDS)):
            for fleet, costs in taken.items():
                costs.append(_cost(plan, database, fleet))
    return [
        Row(f"processor time of a task, {SOME} / 1 workers", ratio(taken[some], taken[one]), "x", 1.10, "at most"),
        Row(f"processor time of a task, {MANY} / 1 workers", ratio(taken[many], taken[one]), "x", 1.35, "at most"),
        Row(f"processor time of a task, FastAPI + PgQueuer / ours, {MANY} workers",
            ratio(taken[plain], taken[many]), bar=25),
        *(
            Row(f"  {fleet.peer.name}: a task", statistics.median(costs), "us", detail=_each(costs))
            for fleet, costs in taken.items()
        ),
    ]  # fmt: skip


def curve(plan: Plan) -> list[Row]:
    """The processor time of a no-op task over 64 connections, by the number of workers, beside other services; once."""
    ours = [_tasker(workers) for workers in CURVE]
    others = [make(workers) for make in (_pgqueuer, _procrastinate) for workers in PEERS_CURVE]
    with postgresql(_ROOM) as database:
        return [
            Row(f"{fleet.peer.name}: processor time of a task", _cost(plan, database, fleet), "us")
            for fleet in (*ours, *others)
        ]


def lone(plan: Plan) -> list[Row]:
    """POST with `Prefer: wait=5` for sum, one at a time, among 16 workers; then with a quarter of them frozen."""
    fleet = _tasker(MANY)
    with postgresql(_ROOM) as database, _started(plan, database, fleet) as server:
        among = waited_sums(server, plan.samples)
        frozen: list[float] = []
        for start in range(min(plan.rounds, SOME)):
            with _frozen(server.processes[1 + start :: SOME]):
                frozen += waited_sums(server, _LONE, warm=0)
            time.sleep(_SETTLES)  # those that wake report that they live
    frozen.sort()
    p50, p99 = percentile(among, 50), percentile(frozen, 99)
    return [
        Row(f"wait=5 for sum, idle, {MANY} workers: p50", p50, "ms", 15, "at most",
            f"p99 {percentile(among, 99):.2f} ms"),
        Row(f"the same, {MANY // SOME} of them frozen: p99", p99, "ms", 150, "at most",
            f"{len(frozen)} tasks, p50 {percentile(frozen, 50):.2f} ms, the slowest {frozen[-1]:.0f} ms"),
    ]  # fmt: skip


@contextmanager
def _frozen(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGCONT)


def idle(plan: Plan) -> list[Row]:
    """What an idle worker uses: its share of all that the database and the workers use while nothing happens."""
    fleet = _tasker(MANY)
    with postgresql(_ROOM) as database, _started(plan, database, fleet) as server:
        time.sleep(_SETTLES)
        _, *workers = server.processes
        before, begun = _processor_seconds(server, workers), time.monotonic()
        time.sleep(_IDLE)
        used, took = _processor_seconds(server, workers) - before, time.monotonic() - begun
    each = used / took / MANY * 1000
    return [Row("an idle worker, and its share of the database, a second", each, "ms", 2, "at most",
                f"{MANY} workers over {took:.0f} s")]  # fmt: skip


def _each(costs: Sequence[float]) -> str:
    return f"{len(costs)} rounds, {min(costs):,.0f} to {max(costs):,.0f}"


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {
    "workers_cost": cost,
    "workers_curve": curve,
    "workers_lone": lone,
    "workers_idle": idle,
}
