"""Fill a data folder with many tasks without running each of them.

Pending tasks go through the engine. Finished ones are copies of a task that really ran: with the engine closed, its
row and its journal entries are inserted again and again, so that the file is as half a million such runs would leave
it.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import apsw
import asyncpg
import msgspec

from bench import load
from tasker.clock import SystemClock
from tasker.engines.postgres import open_postgres
from tasker.engines.protocol import ClaimRequest, Engine
from tasker.engines.sqlite import open_sqlite
from tasker.engines.sqlite.sql import QUERIES
from tasker.model import Draft, Policy, new_task_id
from tasker.rules.lifecycle import Succeeded, decide

_FILE = "tasker.db"
_AT_ONCE = 1000
_OF_NO_TASK = {"probe", "journal_name", "usage_by_day", "webhook_dispatch", "task_span"}
"""Tables whose rows do not depend on the number of tasks in a day, or that the store fills by itself."""
_COPY_NOTES = """
INSERT INTO {journal} (noted_at, notes)
SELECT note.noted_at, note.notes FROM {task}, (SELECT noted_at, notes FROM {journal}) AS note
WHERE seq > (SELECT min(seq) FROM {task})"""
_HISTORY_AT_ONCE = 250_000
_HISTORY = """
WITH RECURSIVE n (i) AS (SELECT :start UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end),
made AS (SELECT i, created_at - (:count - i) * (30 * 86400000000 / :count) AS time FROM n, task WHERE seq = 1)
INSERT INTO task ({names}) SELECT {values} FROM made CROSS JOIN task WHERE seq = 1"""
_HISTORY_TAGS = """
INSERT INTO task_tag SELECT value, seq FROM task, json_each(tags) WHERE seq > :start AND seq <= :end AND tags <> '[]'"""
_VARIED = {
    "task_id": "unhex(printf('%012x7%03x8', time / 1000, i % 4096) || substr(hex(randomblob(8)), 2))",
    "created_at": "time",
    "due_at": "time",
    "started_at": "time + 1000",
    "finished_at": "time + 2000",
    "status": "CASE i % 100 WHEN 7 THEN 'failed' WHEN 13 THEN 'failed' WHEN 17 THEN 'cancelled' ELSE 'completed' END",
    "type": "CASE WHEN i % 10007 = 1 AND i < :count / 10 THEN 'rare' WHEN i % 10 = 3 THEN 'sum' ELSE type END",
    "queue": "CASE WHEN i % 10007 = 2 AND i < :count / 10 THEN 'rare' WHEN i % 20 = 5 THEN 'bulk' ELSE queue END",
    "owner": "CASE WHEN i % 3 = 0 THEN 'alice' ELSE owner END",
    "tags": "CASE WHEN i % 10007 = 3 AND i < :count / 10 THEN json_array('rare')"
    " WHEN i % 10 = 8 THEN json_array('import') ELSE tags END",
}
"""Columns of the tasks of a history, with the SQL of the values of the one that is number i of :count."""


def pending(folder: Path, count: int) -> None:
    """Store `count` due no-op tasks in the folder's file."""
    asyncio.run(_fill_pending(folder, count))


def finished(folder: Path, count: int) -> None:
    """Store `count` completed no-op tasks in the folder's file."""
    asyncio.run(_finish_one(folder))
    _copy_finished(folder / _FILE, count - 1)


def history(folder: Path, count: int) -> None:
    """Store `count` ended tasks of the last 30 days in the folder's file, as many kinds of work leave them.

    A tenth has the tag "import", a twentieth is in the queue "bulk", a third is alice's, and 3 % failed or were
    cancelled; a few have the tag, the queue and the type "rare", and all of those are old.
    """
    asyncio.run(_finish_one(folder))
    with contextlib.closing(apsw.Connection(str(folder / _FILE))) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(task)")]
        same = [name for name in columns if name not in {"seq", *_VARIED}]
        names, values = ", ".join([*_VARIED, *same]), ", ".join([*_VARIED.values(), *same])
        for start in range(1, count, _HISTORY_AT_ONCE):
            given = {"start": start, "end": min(start + _HISTORY_AT_ONCE, count), "count": count}
            with connection:
                connection.execute(_HISTORY.format(names=names, values=values), given)
                connection.execute(_HISTORY_TAGS, given)
                connection.execute(QUERIES["note_spans"], (start,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def finished_shared(url: str, count: int) -> str:
    """Store `count` completed no-op tasks in the database at `url`; return its name, to use as a template."""
    asyncio.run(_finish_one_shared(url))
    asyncio.run(_copy_finished_shared(url, count - 1))
    return urlsplit(url).path.removeprefix("/")


def has_task(port: int, status: str) -> bool:
    """Return whether the server has a task of this status."""
    return b'"task_id"' in load.fetch(port, f"/task?status={status}&limit=1")


def _draft() -> Draft:
    now = SystemClock().now()
    return Draft(
        task_id=new_task_id(now),
        type="noop",
        params=b"[]",
        queue="default",
        priority=0,
        created_at=now,
        policy=msgspec.json.encode(Policy()),
        max_attempts=1,
    )


async def _fill_pending(folder: Path, count: int) -> None:
    async with open_sqlite(folder / _FILE, SystemClock()) as engine:
        for start in range(0, count, _AT_ONCE):
            await engine.submit([_draft() for _ in range(min(_AT_ONCE, count - start))])


async def _finish_one(folder: Path) -> None:
    async with open_sqlite(folder / _FILE, SystemClock()) as engine:
        await _run_one(engine)


async def _finish_one_shared(url: str) -> None:
    async with open_postgres(url) as engine:
        await _run_one(engine)


async def _run_one(engine: Engine) -> None:
    await engine.submit([_draft()])
    request = ClaimRequest("bench", ["noop"], 1, timedelta(minutes=1))
    [claim] = await engine.claim(request, wait_for=timedelta(seconds=5))
    await engine.complete(claim.lease, decide(Succeeded(b"null"), claim, SystemClock().now(), Random()))


def _copy_finished(file: Path, copies: int) -> None:
    """Insert the one task of the file again, `copies` times, under new ids in order."""
    with apsw.Connection(str(file)) as connection:
        _check_alone(connection)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(task)")]
        same = ", ".join(name for name in columns if name not in {"seq", "task_id"})
        rows = ((new_task_id(SystemClock().now()).bytes,) for _ in range(copies))
        connection.executemany(f"INSERT INTO task (task_id, {same}) SELECT ?, {same} FROM task WHERE seq = 1", rows)
        connection.execute(_COPY_NOTES.format(journal="journal", task="task"))
        connection.execute(QUERIES["note_spans"], (1,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _check_alone(connection: apsw.Connection) -> None:
    """Check that a finished task is one row of `task` and its journal entries, or copies would be incomplete."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counts = {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').get for name in tables if name[:7] != "sqlite_"
    }
    filled = {name for name, count in counts.items() if count}
    if filled - _OF_NO_TASK != {"task", "journal"}:
        raise AssertionError(f"a finished task now has rows in {filled}: copy those too")


async def _copy_finished_shared(url: str, copies: int) -> None:
    """As `_copy_finished`, in one statement; then vacuum, as autovacuum would have done for as many rows."""
    connection = await asyncpg.connect(url)
    columns = [row[0] for row in await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'tasker' AND table_name = 'task'"
    )]  # fmt: skip
    same = ", ".join(name for name in columns if name not in {"seq", "task_id"})
    ids = [new_task_id(SystemClock().now()) for _ in range(copies)]
    await connection.execute(
        f"INSERT INTO tasker.task (task_id, {same}) SELECT copy, {same} FROM tasker.task, unnest($1::uuid[]) AS copy",
        ids,
    )
    await connection.execute(_COPY_NOTES.format(journal="tasker.journal", task="tasker.task"))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
