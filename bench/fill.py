"""Making a data folder with many tasks in it, without running each of them.

Pending tasks go through the engine. Finished ones are copies of a task that really ran: with the engine closed, its
row is inserted again and again under new ids, so that the file is what half a million such runs would have left.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from random import Random

import apsw
import msgspec

from bench import load
from tasker.clock import SystemClock
from tasker.engine import ClaimRequest
from tasker.engines.sqlite import SqliteEngine
from tasker.lifecycle import Succeeded, decide
from tasker.model import Draft, Policy, new_task_id

_FILE = "tasker.db"
_AT_ONCE = 1000


def pending(folder: Path, count: int) -> None:
    """Put `count` no-op tasks that are due into the folder's file."""
    asyncio.run(_fill_pending(folder, count))


def finished(folder: Path, count: int) -> None:
    """Put `count` completed no-op tasks into the folder's file."""
    asyncio.run(_finish_one(folder))
    _copy_finished(folder / _FILE, count - 1)


def has_task(port: int, status: str) -> bool:
    """Tell whether the server has a task of that status."""
    found: list[bool] = []

    def on_reply(code: int, body: bytes, _took: float) -> None:
        if code != 200:
            raise load.LoadError(f"the list gave {code} {body[:200]!r}")
        found.append(b'"task_id"' in body)

    with load.Client(port, 1) as client:
        client.exchange([load.get(f"/task?status={status}&limit=1")], on_reply, until=float("inf"))
    return found[0]


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
    engine = SqliteEngine(folder / _FILE, SystemClock())
    await engine.open()
    for start in range(0, count, _AT_ONCE):
        await engine.submit([_draft() for _ in range(min(_AT_ONCE, count - start))])
    await engine.close()


async def _finish_one(folder: Path) -> None:
    engine = SqliteEngine(folder / _FILE, SystemClock())
    await engine.open()
    await engine.submit([_draft()])
    request = ClaimRequest("bench", ["noop"], 1, timedelta(minutes=1))
    [claim] = await engine.claim(request, wait_for=timedelta(seconds=5))
    await engine.complete(claim.lease, decide(Succeeded(b"null"), claim, SystemClock().now(), Random()))
    await engine.close()


def _copy_finished(file: Path, copies: int) -> None:
    """Insert the one task of the file again, `copies` times, under new ids in order."""
    with apsw.Connection(str(file)) as connection:
        _check_alone(connection)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(task)")]
        same = ", ".join(name for name in columns if name not in {"seq", "task_id"})
        rows = ((new_task_id(SystemClock().now()).bytes,) for _ in range(copies))
        connection.executemany(f"INSERT INTO task (task_id, {same}) SELECT ?, {same} FROM task WHERE seq = 1", rows)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _check_alone(connection: apsw.Connection) -> None:
    """Be sure that a finished task is one row of `task` and nothing else, or the copies would not be whole."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counts = {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').get for name in tables if name[:7] != "sqlite_"
    }
    filled = {name for name, count in counts.items() if count}
    if filled - {"probe"} != {"task"}:
        raise AssertionError(f"a finished task now has rows in {filled}: copy those too")
