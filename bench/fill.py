"""Fill a data folder with many tasks without running each of them.

Pending tasks go through the engine. Finished ones are copies of a task that really ran: with the engine closed, its
row and its journal entries are inserted again and again, so that the file is as half a million such runs would leave
it. What the engine counts of tasks is added: their spans, failures and usage as rows, and what they change of the
statistics as changes, which the engine then folds into its sums.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import apsw
import asyncpg
import msgspec
from msgspec import structs

from bench import load
from tasker.clock import SystemClock, to_micros
from tasker.engines.postgres import open_postgres
from tasker.engines.protocol import ClaimRequest, Engine
from tasker.engines.shared.looks import BLOCK
from tasker.engines.shared.rollup import TaskChange, pack
from tasker.engines.shared.values import decode_problem, encode_problem
from tasker.engines.sqlite import open_sqlite
from tasker.engines.sqlite.sql import QUERIES
from tasker.model import Draft, Policy, new_task_id
from tasker.model.stats import KEEP_MINUTES, run_bucket, wait_bucket
from tasker.model.tasks import ExceptionInfo
from tasker.rules.failures import fingerprint
from tasker.rules.lifecycle import Succeeded, decide, problem

_FILE = "tasker.db"
_AT_ONCE = 1000
_OF_NO_TASK = {"probe", "journal_name", "webhook_dispatch", "cursor_key", "clock"}
"""Tables whose rows do not depend on the number of tasks."""
_COUNTED = {"task_span", "usage_by_day", "task_change", "rollup", "open_task"}
"""Tables of what is counted of completed tasks: `_count` fills them."""
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
_FAILED = "i % 100 IN (7, 13)"
_REASONS = ("no header", "an unknown column", "a row is too short", "no such file", "not in UTF-8", "it is empty")
"""Reasons of the failures: each has a failure group for an owner and a type."""
_VARIED = {
    "task_id": "unhex(printf('%012x7%03x8', time / 1000, i % 4096) || substr(hex(randomblob(8)), 2))",
    "created_at": "time",
    "due_at": "time",
    "started_at": "time + 1000",
    "finished_at": "time + 1000 + (1000 << (i % 12))",
    "status": f"CASE WHEN {_FAILED} THEN 'failed' WHEN i % 100 = 17 THEN 'cancelled' ELSE 'completed' END",
    "error": f"CASE WHEN {_FAILED} THEN error_of(i) END",
    "result": f"CASE WHEN NOT ({_FAILED}) AND i % 100 <> 17 THEN result END",
    "type": "CASE WHEN i % 10007 = 1 AND i < :count / 10 THEN 'rare' WHEN i % 10 = 3 THEN 'sum' ELSE type END",
    "queue": "CASE WHEN i % 10007 = 2 AND i < :count / 10 THEN 'rare' WHEN i % 20 = 5 THEN 'bulk' ELSE queue END",
    "owner": "CASE WHEN i % 3 = 0 THEN 'alice' ELSE owner END",
    "tags": "CASE WHEN i % 10007 = 3 AND i < :count / 10 THEN json_array('rare')"
    " WHEN i % 10 = 8 THEN json_array('import') ELSE tags END",
}
"""Columns of the tasks of a history, with the SQL of the values of the one that is number i of :count."""
_SPANS = f"""
INSERT INTO task_span SELECT seq / {BLOCK} AS block, min(created_at), max(created_at) FROM task
WHERE seq > :start AND seq <= :end GROUP BY block
ON CONFLICT (block) DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last)"""
_USAGE = """
INSERT INTO usage_by_day AS known (day, owner, type, attempts, completed, failed, cancelled, run_time,
                                   input_tokens, output_tokens, cached_tokens, cost)
SELECT finished_at / 86400000000 AS day, owner, type, count(*), sum(status = 'completed'), sum(status = 'failed'),
       sum(status = 'cancelled'), sum(finished_at - started_at), 0, 0, 0, 0
FROM task WHERE seq > :start AND seq <= :end GROUP BY day, owner, type
ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts, completed = completed + excluded.completed,
    failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled,
    run_time = run_time + excluded.run_time"""
_MINUTE = "CASE WHEN {0} < :recent THEN {0} / 3600000000 * 60 ELSE {0} / 60000000 END"
"""The minute of a time; the first one of its hour, where no sums by minute are kept."""
_COUNTS = f"""
SELECT {_MINUTE.format("created_at")}, {_MINUTE.format("started_at")}, {_MINUTE.format("finished_at")},
       owner, type, queue, status, started_at - due_at, finished_at - started_at, count(*)
FROM task WHERE seq > :start AND seq <= :end GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9"""
_FAILURES = (
    """
INSERT INTO task_failure SELECT failure_of(owner, type, error), seq FROM task
WHERE status = 'failed' AND seq > :start AND seq <= :end""",
    """
INSERT INTO failure_hour
SELECT owner, finished_at - finished_at % 3600000000 AS hour, failure, type, queue, count(*), max(finished_at)
FROM task CROSS JOIN task_failure USING (seq) WHERE task.seq > :start AND task.seq <= :end
GROUP BY owner, hour, failure, type, queue
ON CONFLICT DO UPDATE SET count = count + excluded.count, last_at = max(last_at, excluded.last_at)""",
    """
INSERT INTO failure
SELECT failure, owner, type, problem_of(error), exception_of(error), min(finished_at), max(finished_at)
FROM task CROSS JOIN task_failure USING (seq) WHERE task.seq > :start AND task.seq <= :end GROUP BY failure
ON CONFLICT DO UPDATE SET first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)""",
)


def pending(folder: Path, count: int) -> None:
    """Store `count` due no-op tasks in the folder's file."""
    asyncio.run(_fill_pending(folder, count))


def finished(folder: Path, count: int) -> None:
    """Store `count` completed no-op tasks in the folder's file."""
    asyncio.run(_finish_one(folder))
    _copy_finished(folder / _FILE, count - 1)
    asyncio.run(_fold(folder))


def history(folder: Path, count: int) -> None:
    """Store `count` ended tasks of the last 30 days in the folder's file, as many kinds of work leave them.

    A tenth has the tag "import", a twentieth is in the queue "bulk", a third is alice's, and 3 % failed or were
    cancelled; a few have the tag, the queue and the type "rare", and all of those are old.
    """
    asyncio.run(_finish_one(folder))
    with contextlib.closing(apsw.Connection(str(folder / _FILE))) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        _add_functions(connection)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(task)")]
        same = [name for name in columns if name not in {"seq", *_VARIED}]
        names, values = ", ".join([*_VARIED, *same]), ", ".join([*_VARIED.values(), *same])
        for start in range(1, count, _HISTORY_AT_ONCE):
            given = {"start": start, "end": min(start + _HISTORY_AT_ONCE, count), "count": count}
            with connection:
                connection.execute(_HISTORY.format(names=names, values=values), given)
                connection.execute(_HISTORY_TAGS, given)
                for statement in _FAILURES:
                    connection.execute(statement, given)
                _count(connection, given)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    asyncio.run(_fold(folder))


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
        _count(connection, {"start": 1, "end": 1 + copies})
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _add_functions(connection: apsw.Connection) -> None:
    """Add the functions that the SQL of a history calls."""

    def failure_of(owner: str, type_: str, error: bytes) -> str:
        return fingerprint(owner, type_, decode_problem(error)).failure_id

    def problem_of(error: bytes) -> str:
        return decode_problem(error).type

    def exception_of(error: bytes) -> str:
        return fingerprint("", "", decode_problem(error)).exception

    functions: tuple[Callable[..., Any], ...] = (_error_of, failure_of, problem_of, exception_of)
    for function in functions:
        connection.create_scalar_function(function.__name__.lstrip("_"), function, deterministic=True)


def _error_of(number: int) -> bytes | None:
    """Return the error of the failed task of this number."""
    message = f"cannot read '{number}.csv': {_REASONS[number // 100 % len(_REASONS)]}"
    error = problem("task-raised", f"ValueError: {message}", attempt=1)
    return encode_problem(structs.replace(error, exception=ExceptionInfo(class_="ValueError", message=message)))


def _count(connection: apsw.Connection, given: Mapping[str, int]) -> None:
    """Add what is counted of the ended tasks after the seq `start` up to `end`."""
    values = {**given, "recent": to_micros(SystemClock().now() - KEEP_MINUTES)}
    connection.execute(_SPANS, values)
    connection.execute(_USAGE, values)
    found: dict[tuple[Any, ...], TaskChange] = {}

    def at(*place: Any) -> TaskChange:
        return found.setdefault(place, TaskChange(*place))

    rows: list[Any] = connection.execute(_COUNTS, values).fetchall()
    for created, started, ended, *key, status, waited, ran, number in rows:
        at(created, *key).submitted += number
        one = at(started, *key)
        one.started += number
        one.wait_time += waited * number
        one.waits += [wait_bucket(waited)] * number
        one = at(ended, *key)
        setattr(one, status, getattr(one, status) + number)
        one.run_time += ran * number
        one.runs += [run_bucket(ran)] * number
    connection.executemany(QUERIES["insert_change"], ((pack([change]),) for change in found.values()))


async def _fold(folder: Path) -> None:
    """Let the engine add the changes of the statistics to its sums, and erase the sums that it does not keep."""
    async with open_sqlite(folder / _FILE, SystemClock()) as engine:
        while await engine.stats.fold(limit=_AT_ONCE):
            pass
        while await engine.stats.prune(limit=_AT_ONCE):
            pass


def _check_alone(connection: apsw.Connection) -> None:
    """Check that a finished task is one row of `task` and its journal entries, or copies would be incomplete."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counts = {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').get for name in tables if name[:7] != "sqlite_"
    }
    filled = {name for name, count in counts.items() if count}
    if filled - _OF_NO_TASK - _COUNTED != {"task", "journal"}:
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
