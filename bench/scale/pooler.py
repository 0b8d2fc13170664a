"""PgBouncer between the engine and PostgreSQL: which of its modes work, tried with a real one.

The engine has no settings for a pooler. A trial that needs one changes the engine here: no statement cache, and a
listener that connects to the database directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import structlog

from bench.scale.meter import Place, cluster, place
from bench.scale.tasks import Figures, claim, complete, draft, submit
from bench.servers import HOST, free_port
from bench.stores import DISK
from tasker.engines.postgres import PostgresEngine, open_postgres
from tasker.engines.postgres import engine as engine_module
from tasker.engines.postgres.connections import Connections, session_settings

_TASKS, _BATCH = 2000, 10


@contextlib.contextmanager
def pgbouncer(url: str, mode: str, *, ignore: str = "") -> Iterator[str]:
    """Run a PgBouncer in front of the database at `url`; yield the URL through it."""
    program = shutil.which("pgbouncer")
    if program is None:
        raise SystemExit("PgBouncer is not installed: apt install pgbouncer")
    parts, port = urlsplit(url), free_port()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=DISK))
    settings = {
        "listen_addr": HOST, "listen_port": port, "auth_type": "any", "pool_mode": mode, "default_pool_size": 8,
        "max_client_conn": 1000, "unix_socket_dir": "", "logfile": folder / "log", "pidfile": folder / "pid",
        "ignore_startup_parameters": ignore,
    }  # fmt: skip
    lines = [f"{name} = {value}" for name, value in settings.items() if value != ""]
    target = f"* = host={HOST} port={parts.port} user=postgres"
    (folder / "ini").write_text("\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]))
    account = pwd.getpwnam("postgres")
    for one in (folder, folder / "ini"):
        shutil.chown(one, account.pw_uid, account.pw_gid)
    process = subprocess.Popen(
        [program, str(folder / "ini")], user=account.pw_uid, group=account.pw_gid, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"postgresql://postgres@{HOST}:{port}{parts.path}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


class _Adapted(Connections):
    """A pool through the pooler, without prepared statements or start-up settings; the listener bypasses it."""

    direct = ""

    async def open(self) -> None:
        self.settings = {}
        create, cache = asyncpg.create_pool, {"statement_cache_size": 0}
        asyncpg.create_pool = lambda *args, **options: create(*args, **options, **cache)
        try:
            await super().open()
        finally:
            asyncpg.create_pool = create

    async def connect(self) -> Any:
        through, self.url = self.url, self.direct
        try:
            return await super().connect()
        finally:
            self.url = through


async def life(at: Place, opening: AbstractAsyncContextManager[PostgresEngine]) -> Figures:
    """Run tasks to their end, listen, hold a lock; return the cost of a task, or the error."""
    heard = asyncio.Event()
    try:
        async with asyncio.timeout(60), opening as engine:
            engine._waiters.wake = lambda lines: heard.set() if list(lines) else None  # type: ignore[method-assign]
            await _from_elsewhere(at, heard)
            locked = await engine._listener.hold("bench")
            before = await at.used()
            for _ in range(_TASKS // _BATCH):
                await asyncio.gather(submit(engine, [draft() for _ in range(_BATCH)]), engine.stats())
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
    ignored = ",".join(session_settings({}))
    tried: list[Figures] = []
    with cluster() as database:
        async with place(database) as at:
            tried.append({"way": "no pooler"} | await life(at, open_postgres(at.url)))
        for mode, ignore in (("session", ""), ("session", ignored), ("transaction", ignored)):
            async with place(database) as at:
                with pgbouncer(at.url, mode, ignore=ignore) as url:
                    await _migrated(at.url)
                    name = f"{mode} mode, {'start-up settings ignored' if ignore else 'default settings'}"
                    tried.append({"way": name} | await life(at, open_postgres(url)))
        async with place(database) as at:
            with pgbouncer(at.url, "transaction") as url:
                await _migrated(at.url)
                with _adapted(at.url):
                    figures = await life(at, open_postgres(url))
                tried.append({"way": "transaction mode, engine adapted by the bench"} | figures)
    return {"tried": tried}


async def _migrated(url: str) -> None:
    async with open_postgres(url):
        pass


@contextlib.contextmanager
def _adapted(direct: str) -> Iterator[None]:
    """Have engines open a pool without cached statements, and listen at `direct`."""
    plain, _Adapted.direct = engine_module.Connections, direct
    engine_module.Connections = _Adapted  # type: ignore[misc]
    try:
        yield
    finally:
        engine_module.Connections = plain  # type: ignore[misc]
