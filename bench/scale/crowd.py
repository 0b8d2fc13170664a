"""The cost of many workers: idle ones, and those that claim from the same partition."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from random import Random
from typing import cast

from bench.noop import nap, noop
from bench.scale.meter import Place, cluster, place
from bench.scale.tasks import Figures, claim, complete, draft, submit
from tasker.builtin import builtin_registry
from tasker.chores.lead import run_with_lead
from tasker.chores.loop import run_chores
from tasker.chores.plan import engine_chores
from tasker.engines.postgres import PostgresEngine, open_postgres
from tasker.engines.postgres.notifications import channel_of
from tasker.executor.executor import Executor
from tasker.metrics import Metrics
from tasker.tasktypes.registry import Registry
from tasker.worker.attempts import AttemptRunner
from tasker.worker.worker import Worker

_LEASE, _HEARTBEAT = timedelta(seconds=10), timedelta(seconds=3)  # the product's defaults
_AT_ONCE = 20
_SETTLE = 4.0
_EACH = 5
"""Connections of a worker with a pool of four."""


@contextlib.asynccontextmanager
async def engines(at: Place, count: int, *, pool_size: int = 4) -> AsyncIterator[list[PostgresEngine]]:
    """Open engines, a few at a time. Each has the connections of a process."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one() -> PostgresEngine:
            return await stack.enter_async_context(open_postgres(at.url, pool_size=pool_size))

        opened: list[PostgresEngine] = []
        for start in range(0, count, _AT_ONCE):
            opened += await asyncio.gather(*(open_one() for _ in range(min(_AT_ONCE, count - start))))
        yield opened


def _registry() -> Registry:
    registry = builtin_registry(None, default_timeout=timedelta(minutes=5))
    for function in (noop, nap):
        registry.add(function)
    return registry


class IdleWorkers:
    """Workers with their chores as in the product, in one process. They run nothing."""

    def __init__(self, opened: list[PostgresEngine]) -> None:
        registry, metrics, self._random = _registry(), Metrics(), Random(1)
        nobody = cast(Executor, None)
        self._engines = opened
        self._workers = [
            Worker(
                engine,
                registry,
                AttemptRunner(engine, registry, nobody, engine.clock, metrics, random=self._random),
                engine.clock,
                slots=100,
                processes=2,
                lease_for=_LEASE,
                heartbeat_every=_HEARTBEAT,
            )
            for engine in opened
        ]
        self._chores: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start them spread over a heartbeat, as processes that people start."""
        for engine, worker in zip(self._engines, self._workers, strict=True):
            await worker.start()
            chores = partial(run_chores, engine_chores(engine, engine.clock, self._random))
            self._chores.append(asyncio.create_task(run_with_lead(engine.lead, chores)))
            await asyncio.sleep(_HEARTBEAT.total_seconds() / len(self._workers))

    async def stop(self) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.wait(self._chores)  # the leader gives up the lead
        await asyncio.gather(*(worker.drain(timedelta(0), asyncio.Event()) for worker in self._workers))


async def idle(at: Place, count: int, *, pool_size: int = 4, seconds: float = 12) -> Figures:
    """Return what an idle worker uses in a second."""
    async with engines(at, count, pool_size=pool_size) as opened:
        workers = IdleWorkers(opened)
        await workers.start()
        await asyncio.sleep(_SETTLE)
        before = await at.used()
        await asyncio.sleep(seconds)
        used = (await at.used()).since(before)
        sessions = await at.control.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tasker'")
        await workers.stop()
    each = used.each(count * used.seconds)
    return {
        "workers": count, "pool_size": pool_size, "database_us": each.database * 1e6,
        "client_us": each.client * 1e6, "commits": each.commits, "syncs": each.syncs, "wal_bytes": each.wal,
        "sessions": sessions / count,
    }  # fmt: skip


async def contention(at: Place, workers: int, limit: int, backlog: int) -> Figures:
    """Return the cost of a claimed task while several workers claim from one partition as fast as they can."""
    async with engines(at, workers, pool_size=3) as opened:
        for _ in range(0, backlog, 250):
            await submit(opened[0], [draft() for _ in range(250)])
        await at.control.execute("VACUUM ANALYZE")
        before = await at.used()
        counts = await asyncio.gather(*(_claim_all(engine, limit) for engine in opened))
        used = (await at.used()).since(before)
    claimed, empty = sum(count for count, _ in counts), sum(empty for _, empty in counts)
    assert claimed == backlog
    each = used.each(backlog)
    return {
        "workers": workers, "limit": limit, "database_us": each.database * 1e6, "client_us": each.client * 1e6,
        "wal_bytes": each.wal, "per_second": backlog / used.seconds, "empty": empty - workers,
    }  # fmt: skip


async def _claim_all(engine: PostgresEngine, limit: int) -> tuple[int, int]:
    """Claim until three claims were empty; return the number of tasks and of empty claims."""
    count = empty = in_a_row = 0
    while in_a_row < 3:
        claims = await claim(engine, limit)
        count += len(claims)
        in_a_row = 0 if claims else in_a_row + 1
        empty += not claims
    return count, empty - 2


async def lines(at: Place, count: int, depth: int, tries: int = 40) -> Figures:
    """Return the cost of a look and of a claim of 100 tasks, by the number of partitions of `depth` tasks each."""
    async with engines(at, 1) as [engine]:
        for number in range(count):
            await submit(engine, [draft(queue=f"q{number:04}") for _ in range(depth)])
        await at.control.execute("VACUUM ANALYZE")
        before = await at.used()
        for _ in range(tries):
            await claim(engine, 100, types=("none",))
        look = (await at.used()).since(before).each(tries)
        await complete(engine, await claim(engine, 100))
        before = await at.used()
        for _ in range(5):
            assert len(await claim(engine, 100)) == 100
        took = (await at.used()).since(before).each(5)
    return {
        "lines": count, "depth": depth, "look_us": look.database * 1e6, "claim_us": took.database * 1e6,
        "wal_bytes": took.wal,
    }  # fmt: skip


async def gone(at: Place, count: int, tries: int = 50) -> Figures:
    """Return the cost of the search for dead workers, with all alive and with one late."""
    async with engines(at, 1) as [engine]:
        for number in range(count):
            name = f"worker-{number}"
            await engine._listener.hold(name, channel_of(name, "tasker"))
            await at.control.execute(
                "INSERT INTO tasker.worker (worker_id, heartbeat_at, locked, info) VALUES ($1, now(), true, '{}')", name
            )
        await at.control.execute("ANALYZE tasker.worker")
        figures: Figures = {"workers": count}
        for name, late in (("alive_us", 0), ("one_late_us", 1), ("all_late_us", count)):
            await at.control.execute(
                "UPDATE tasker.worker SET heartbeat_at = now() + CASE WHEN worker_id IN"
                " (SELECT worker_id FROM tasker.worker LIMIT $1) THEN interval '-5 s' ELSE interval '1 h' END", late
            )  # fmt: skip
            before = await at.used()
            for _ in range(tries):
                await engine.find_expired(limit=500)
            figures[name] = (await at.used()).since(before).each(tries).database * 1e6
    return figures


def measure(most: int = 500) -> Figures:
    """Return the figures of all parts. most: workers at once; each has up to five connections."""
    return asyncio.run(_measure(most))


async def _measure(most: int) -> Figures:
    figures: Figures = {"idle": [], "contention": [], "lines": [], "gone": []}
    with cluster(max_connections=most * _EACH + 50) as database:
        for count in (1, 10, 50, 200, most):
            async with place(database) as at:
                figures["idle"].append(await idle(at, count))
        async with place(database) as at:
            figures["idle"].append(await idle(at, 10, pool_size=8))
        for limit, backlog in ((1, 1000), (10, 5000), (100, 20_000)):
            for workers in (1, 2, 4, 8, 16):
                async with place(database) as at:
                    figures["contention"].append(await contention(at, workers, limit, backlog))
        for count, depth in ((1, 1000), (10, 200), (100, 100), (1000, 20)):
            async with place(database) as at:
                figures["lines"].append(await lines(at, count, depth))
            async with place(database) as at:
                figures["gone"].append(await gone(at, count))
    return figures
