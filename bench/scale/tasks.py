"""The cost of a task for the engine in each step of its life, by the number of tasks in a transaction."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any

from bench.scale.meter import Place, Used, cluster, place
from tasker.clock import SystemClock
from tasker.engines.postgres import PostgresEngine, open_postgres
from tasker.engines.protocol import ClaimRequest
from tasker.engines.shared.values import encode
from tasker.model import Claim, Draft, Policy, TaskFilter, new_task_id
from tasker.rules.lifecycle import Succeeded, decide

BATCHES = {1: 1500, 10: 6000, 100: 20_000, 256: 25_600}
"""Tasks to run for each size of batch."""
GENERIC = {"plan_cache_mode": "force_generic_plan"}
"""A session setting that the product does not use, to see its effect."""
_LEASE = timedelta(minutes=10)
_CLOCK = SystemClock()
_POLICY = encode(Policy())
Figures = dict[str, Any]


def draft(type: str = "noop", queue: str = "default") -> Draft:
    """Return a due no-op task."""
    now = _CLOCK.now()
    return Draft(
        task_id=new_task_id(now), type=type, params=b"[]", queue=queue, priority=0, created_at=now, policy=_POLICY,
        max_attempts=1,
    )  # fmt: skip


async def submit(engine: PostgresEngine, drafts: Sequence[Draft]) -> None:
    """Submit each by itself, all in one iteration of the loop: they share one transaction (up to 256)."""
    await asyncio.gather(*(engine.submit([one]) for one in drafts))


async def claim(
    engine: PostgresEngine, limit: int, worker: str = "bench", types: Sequence[str] = ("noop",)
) -> list[Claim]:
    return await engine.claim(ClaimRequest(worker, types, limit, _LEASE), wait_for=timedelta(0))


async def complete(engine: PostgresEngine, claims: Sequence[Claim]) -> None:
    now = _CLOCK.now()
    await asyncio.gather(
        *(engine.complete(one.lease, decide(Succeeded(b"null"), one, now, Random())) for one in claims)
    )


async def life(at: Place, batch: int, count: int, session: dict[str, str] | None = None) -> dict[str, Used]:
    """Take `count` tasks through their life, `batch` to a transaction; return the usage of each step for a task.

    Each step has an engine of its own: only when its sessions end are their counts complete.
    """
    drafts, claims = [draft() for _ in range(count)], []

    async def submits(engine: PostgresEngine) -> None:
        for start in range(0, count, batch):
            await submit(engine, drafts[start : start + batch])

    async def takes(engine: PostgresEngine) -> None:
        for _ in range(0, count, batch):
            claims.extend(await claim(engine, batch))

    async def ends(engine: PostgresEngine) -> None:
        for start in range(0, count, batch):
            await complete(engine, claims[start : start + batch])

    used = {
        name: await _step(at, work, session)
        for name, work in (("submit", submits), ("claim", takes), ("complete", ends))
    }
    assert len(claims) == count
    return {name: step.each(count) for name, step in used.items()}


async def _step(at: Place, work: Callable[[PostgresEngine], Awaitable[None]], session: dict[str, str] | None) -> Used:
    async with open_postgres(at.url, session=session) as engine:
        before = await at.used()
        await work(engine)
        after = await at.used()
    await asyncio.sleep(0.1)
    counts = await at.used()  # the sessions have ended and reported their counts
    return after._replace(commits=counts.commits, syncs=counts.syncs).since(before)


async def round_trips(at: Place, batch: int) -> dict[str, int]:
    """Return the round trips to the database of one transaction of each step, its look included."""
    counted: Counter[str] = Counter()
    step = ""

    def count(record: Any) -> None:
        counted[step] += not record.query.startswith(("SELECT pg_advisory", "SELECT 1"))

    async def watch(connection: Any) -> None:
        connection.add_query_logger(count)

    step = "warm"
    async with open_postgres(at.url, on_acquire=watch) as engine:
        drafts = [[draft() for _ in range(batch)] for _ in range(2)]
        for warm in (True, False):
            step = "warm" if warm else "submit"
            await submit(engine, drafts.pop())
            step = "warm" if warm else "claim"
            claims = await claim(engine, batch)
            step = "warm" if warm else "complete"
            await complete(engine, claims)
        step = "look, nothing there"
        await claim(engine, batch, types=("none",))
    del counted["warm"]
    return dict(counted)


async def kept(at: Place, count: int = 20_000) -> Figures:
    """Return the bytes kept for a finished task, by table and index, after vacuum."""
    async with open_postgres(at.url) as engine:
        sizes = []
        for _ in range(3):
            for _ in range(0, count, 200):
                await submit(engine, [draft() for _ in range(200)])
                await complete(engine, await claim(engine, 200))
            await at.control.execute("VACUUM")
            sizes.append(await _sizes(at))
    return {name: (size - sizes[0].get(name, 0)) / (2 * count) for name, size in sizes[-1].items() if size > 1 << 20}


async def reads(at: Place, finished: int = 10_000, tries: int = 500) -> dict[str, Figures]:
    """Return the cost of clients' reads, one by one."""
    async with open_postgres(at.url) as engine:
        drafts = [draft() for _ in range(finished)]
        for start in range(0, finished, 200):
            await submit(engine, drafts[start : start + 200])
            await complete(engine, await claim(engine, 200))
        await at.control.execute("VACUUM ANALYZE")
        asked: dict[str, Callable[[int], Awaitable[Any]]] = {
            "GET /task/{task_id}": lambda number: engine.find(drafts[number].task_id),
            "GET /task?limit=50": lambda _: engine.find_many(TaskFilter(), limit=50),
            "GET /queue": lambda _: engine.stats.open_counts(),
        }
        figures = {}
        for name, ask in asked.items():
            before = await at.used()
            for number in range(tries):
                await ask(number)
            used = (await at.used()).since(before).each(tries)
            figures[name] = {"client_us": used.client * 1e6, "database_us": used.database * 1e6}
    return figures


async def _sizes(at: Place) -> dict[str, int]:
    rows = await at.control.fetch(
        "SELECT relname, pg_relation_size(oid) AS size FROM pg_class WHERE relnamespace = 'tasker'::regnamespace"
        " AND relkind IN ('r', 'i')"
    )
    return {row["relname"]: row["size"] for row in rows}


def measure(rounds: int = 3) -> Figures:
    """Return the costs of each step in microseconds, bytes and counts for a task: medians of the rounds."""
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> Figures:
    with cluster() as database:
        taken: dict[int, list[dict[str, Used]]] = {batch: [] for batch in BATCHES}
        generic: dict[int, list[dict[str, Used]]] = {batch: [] for batch in BATCHES}
        for _ in range(rounds):
            for batch, count in BATCHES.items():
                for where, session in ((taken, None), (generic, GENERIC)):
                    async with place(database) as at:
                        where[batch].append(await life(at, batch, count, session))
        async with place(database) as at:
            trips = await round_trips(at, 10)
        async with place(database) as at:
            bytes_kept = await kept(at)
        async with place(database) as at:
            read = await reads(at)
    return {
        "steps": _medians(taken), "with_generic_plans": _medians(generic), "round_trips": trips,
        "bytes_kept": bytes_kept, "reads": read,
    }  # fmt: skip


def _medians(taken: dict[int, list[dict[str, Used]]]) -> Figures:
    return {
        step: {batch: _median([one[step] for one in lives]) for batch, lives in taken.items()}
        for step in ("submit", "claim", "complete")
    }


def _median(used: Sequence[Used]) -> Figures:
    middle = Used(*(statistics.median(column) for column in zip(*used, strict=True)))
    return {
        "client_us": middle.client * 1e6, "database_us": middle.database * 1e6, "wal_bytes": middle.wal,
        "commits": middle.commits, "syncs": middle.syncs,
    }  # fmt: skip
