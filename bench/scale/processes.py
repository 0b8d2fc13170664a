"""Real processes: what one task costs the API, the workers and PostgreSQL, by connections and by workers."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import psutil

from bench import load
from bench.measures import NOOP
from bench.scale.meter import Place, cluster, database_seconds
from bench.scale.tasks import Figures
from bench.servers import NOOP as TASKS
from bench.servers import ROOT, Peer, Server, running
from bench.servers import SHARED_API as API
from bench.stores import PostgreSQL

CONNECTIONS = 1, 8, 64, 256
WORKERS = 1, 2, 4, 8, 16


def with_workers(count: int) -> Peer:
    """Return one API process and `count` worker processes."""

    def commands(port: int, folder: Any) -> list[list[str]]:
        api = API.commands(port, folder)
        return [*api, *([api[0][0], "-m", "tasker", "worker", str(TASKS)] for _ in range(count))]

    return Peer(f"tasker, {count} workers", commands)


class Burst:
    """The usage of processes while tasks are submitted and run."""

    def __init__(self, server: Server, control: Any) -> None:
        assert server.store is not None
        self._server, self._control = server, control
        self._at = Place("", server.store.pid, control)

    def _seconds(self) -> list[float]:
        processes = [psutil.Process(process.pid) for process in self._server.processes]
        return [time.user + time.system for time in (process.cpu_times() for process in processes)]

    async def run(self, connections: int, *, runs: bool, seconds: float, limit: int | None = None) -> Figures:
        """Submit no-op tasks, wait for their end; return the cost of one, in microseconds."""
        port = self._server.port
        before, cpu = await self._at.used(), self._seconds()
        asked = await asyncio.to_thread(
            load.submit_for, port, NOOP, seconds=seconds, connections=connections, limit=limit
        )
        if asked.errors:
            raise load.LoadError(str(asked.errors.most_common(3)))
        while runs and await self._open_tasks():
            await asyncio.sleep(0.02)
        used, count = (await self._at.used()).since(before), len(asked.task_ids)
        api, *workers = (after - once for after, once in zip(self._seconds(), cpu, strict=True))
        await asyncio.sleep(1.1)  # the sessions have reported their counts
        commits = (await self._at.used()).commits - before.commits
        return {
            "tasks": count, "connections": connections, "workers": len(workers), "api_us": api / count * 1e6,
            "worker_us": sum(workers) / count * 1e6, "database_us": used.database / count * 1e6,
            "wal_bytes": used.wal / count, "commits": commits / count,
            "per_second": count / used.seconds, "p50_ms": statistics.median(asked.latencies) * 1e3,
        }  # fmt: skip

    async def _open_tasks(self) -> bool:
        query = "SELECT EXISTS (SELECT FROM tasker.task WHERE status IN ('pending', 'running'))"
        return bool(await self._control.fetchval(query))


async def _bursts(server: Server, workers: int, plan: Sequence[tuple[int, float, int | None]]) -> list[Figures]:
    assert server.store is not None
    control = await asyncpg.connect(server.store.env["DATABASE_URL"])
    burst = Burst(server, control)
    try:
        while await control.fetchval("SELECT count(*) FROM tasker.worker") < workers:
            await asyncio.sleep(0.1)
        await burst.run(8, runs=workers > 0, seconds=1)
        await asyncio.sleep(1)
        return [
            await burst.run(connections, runs=workers > 0, seconds=seconds, limit=limit)
            for connections, seconds, limit in plan
        ]
    finally:
        await control.close()


def _measured(database: PostgreSQL, workers: int, plan: Sequence[tuple[int, float, int | None]]) -> list[Figures]:
    with database.fresh() as store, running(with_workers(workers), ROOT, store=store) as server:
        return asyncio.run(_bursts(server, workers, plan))


async def _idle_process(server: Server, seconds: float = 10) -> Figures:
    """Return the usage of an idle worker process in a second."""
    assert server.store is not None
    worker = psutil.Process(server.processes[1].pid)
    await asyncio.sleep(4)
    before, database, begun = worker.cpu_times(), database_seconds(server.store.pid), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = worker.cpu_times(), time.monotonic() - begun
    cpu = after.user + after.system - before.user - before.system
    return {
        "worker_us": cpu / took * 1e6, "database_us": (database_seconds(server.store.pid) - database) / took * 1e6,
        "rss_mb": worker.memory_info().rss / 2**20,
    }  # fmt: skip


def measure(seconds: float = 3.0) -> Figures:
    """Return the figures of all parts."""
    with cluster(max_connections=400) as database:
        accepted = _measured(database, 0, [(connections, seconds, None) for connections in CONNECTIONS])
        ran = []
        for workers in WORKERS:
            ran += _measured(database, workers, [(1, 30, 400), (64, seconds, None)])
        with database.fresh() as store, running(with_workers(1), ROOT, store=store) as server:
            idle = asyncio.run(_idle_process(server))
    return {"accepted": accepted, "ran": ran, "idle_process": [idle]}
