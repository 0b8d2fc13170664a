"""PgBouncer between the engine and PostgreSQL: which of its modes work, and what they cost, tried with a real one.

Whether prepared statements are carried depends on its release: 1.21 and later carry them unless told not to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import psutil
import structlog
from tests.pooler import find_program, run_pooler
from tests.postgres import Cluster, database_of

from bench.scale.meter import Place, cluster, place
from bench.scale.tasks import Figures, claim, complete, draft, submit
from tasker.engines.postgres import PostgresEngine, open_postgres
from tasker.engines.postgres.connections import session_settings
from tasker.engines.postgres.notifications import channel_of

_TASKS, _BATCH = 2000, 10


async def life(at: Place, opening: AbstractAsyncContextManager[PostgresEngine]) -> Figures:
    """Run tasks to their end, listen, hold a lock; return the cost of a task, or the error."""
    heard = asyncio.Event()
    try:
        async with asyncio.timeout(60), opening as engine:
            engine._waiters.wake = _sets(heard)  # type: ignore[method-assign]
            await _from_elsewhere(at, heard)
            locked = await engine._listener.hold("bench", channel_of("bench", "tasker"))
            before = await at.used()
            for _ in range(_TASKS // _BATCH):
                await asyncio.gather(submit(engine, [draft() for _ in range(_BATCH)]), engine.stats.open_counts())
                claims = await claim(engine, _BATCH)
                await engine.heartbeat([one.lease for one in claims], timedelta(minutes=1))
                await complete(engine, claims)
            used = (await at.used()).since(before).each(_TASKS)
    except Exception as error:  # any failure is the answer
        return {"works": False, "says": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    return {
        "works": heard.is_set() and locked, "heard": heard.is_set(), "locked": locked,
        "database_us": used.database * 1e6, "client_us": used.client * 1e6,
    }  # fmt: skip


def _sets(heard: asyncio.Event) -> Callable[..., None]:
    """Return what stands in for the wake-up of claims."""

    def wake(partitions: Iterable[str], **_: bool) -> None:
        if list(partitions):
            heard.set()

    return wake


async def _from_elsewhere(at: Place, heard: asyncio.Event) -> None:
    """Check that a task of another process wakes this one."""
    async with open_postgres(at.url) as other:
        heard.clear()
        await submit(other, [draft()])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await heard.wait()
        await complete(other, await claim(other, 1))


def measure() -> Figures:
    return asyncio.run(_measure())


async def _measure() -> Figures:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    program = find_program()
    if program is None:
        raise SystemExit("PgBouncer is not installed: apt install pgbouncer")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    ignored = ",".join(session_settings({}))
    tried: list[Figures] = []
    with cluster() as database:
        async with place(database) as at:
            tried.append({"way": "no pooler"} | await life(at, open_postgres(at.url)))
        tried += [
            await _through(database.cluster, place(database), "session mode, as it comes", "session"),
            await _through(
                database.cluster, place(database), "session mode, start-up settings ignored", "session", ignored
            ),
            await _through(
                database.cluster, place(database), "transaction mode, no TASKER_LISTEN_URL", "transaction", ignored
            ),
            await _through(
                database.cluster, place(database), "transaction mode, TASKER_LISTEN_URL", "transaction", listens=True
            ),
        ]
    return {"version": version, "tried": tried}


async def _through(
    server: Cluster,
    opening: AbstractAsyncContextManager[Place],
    way: str,
    mode: str,
    ignored: str = "",
    *,
    listens: bool = False,
) -> Figures:
    """Try a mode of the pooler. listens: whether the listening connection leads to the server itself."""
    async with opening as at:
        with run_pooler(server, mode=mode, sessions=8, ignored=ignored) as pooler:
            used = psutil.Process(pooler.pid)
            url, listen_url = pooler.url_of(database_of(at.url)), at.url if listens else None
            figures = await life(at, open_postgres(url, listen_url=listen_url))
            times = used.cpu_times()
    if figures["works"]:
        figures["pooler_us"] = (times.user + times.system) / _TASKS * 1e6
    return {"way": way} | figures
