"""The spans of a file's tasks: when those of each block were created."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import apsw
from tests.contract.bulk import act
from tests.stores import open_store

from tasker.clock import to_micros
from tasker.engines.shared.looks import BLOCK
from tasker.engines.sqlite import SqliteEngine
from tasker.model import TaskFilter
from tasker.testing import START, ManualClock, make_draft

SECOND = timedelta(seconds=1)
BEGIN = START - timedelta(days=1)


async def store(engine: SqliteEngine, first: int, count: int) -> None:
    await engine.submit([make_draft(BEGIN + number * SECOND, queue="q") for number in range(first, first + count)])


def spans(path: Path) -> list[tuple[int, int, int]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = connection.execute("SELECT block, first, last FROM task_span ORDER BY block").fetchall()
    connection.close()
    return found


async def test_every_task_is_in_the_span_of_its_block(tmp_path: Path) -> None:
    path = tmp_path / "data" / "tasker.db"
    async with open_store(path, ManualClock()) as engine:
        for first in range(0, 1200, 300):
            await store(engine, first, 300)
        found = spans(path)
    assert [block for block, _, _ in found] == [0, 1, 2]
    for block, first, last in found:
        oldest, newest = max(1, block * BLOCK), min(1200, (block + 1) * BLOCK - 1)
        assert first == to_micros(BEGIN + (oldest - 1) * SECOND)
        assert last >= to_micros(BEGIN + (newest - 1) * SECOND)


async def test_a_span_changes_in_few_commits(tmp_path: Path) -> None:
    path, clock, seen = tmp_path / "data" / "tasker.db", ManualClock(), set()
    async with open_store(path, clock) as engine:
        for number in range(200):
            await store(engine, number, 1)
            seen.add(tuple(spans(path)))
    assert len(seen) <= 4, "once a minute, later less often"


async def test_spans_of_erased_tasks_are_forgotten(tmp_path: Path) -> None:
    path, clock = tmp_path / "data" / "tasker.db", ManualClock()
    async with open_store(path, clock) as engine:
        await store(engine, 0, 2 * BLOCK)
        cancelled = [task.task_id for task in (await engine.find_many(TaskFilter(), limit=2 * BLOCK)).items[10:]]
        await act(engine, "cancel", cancelled)
        await act(engine, "delete", cancelled)
        await store(engine, 2 * BLOCK, BLOCK)
        assert [block for block, _, _ in spans(path)] == [1, 2, 3]


async def test_tasks_of_an_older_version_are_found_by_time_and_queue(tmp_path: Path) -> None:
    path, clock = tmp_path / "data" / "tasker.db", ManualClock()
    async with open_store(path, clock) as engine:
        await store(engine, 0, 1200)
    connection = apsw.Connection(str(path))
    newer = (
        "task_span", "task_failure", "task_schedule", "failure", "failure_hour", "bulk", "bulk_task",
        "task_change", "rollup", "open_task", "step", "child", "task_group", "task_group_member", "group_dependency",
    )  # fmt: skip
    connection.execute("; ".join(f"DROP TABLE {name}" for name in newer)).fetchall()
    connection.execute("ALTER TABLE schedule DROP COLUMN firings; ALTER TABLE queue DROP COLUMN pause").fetchall()
    connection.execute("ALTER TABLE task DROP COLUMN has_waited").fetchall()
    connection.execute("ALTER TABLE webhook_delivery DROP COLUMN group_end").fetchall()
    connection.execute("DROP INDEX task_queue; PRAGMA user_version = 21").fetchall()
    connection.close()
    async with open_store(path, clock) as engine:
        before = TaskFilter(created_before=BEGIN + 600 * SECOND, queues=("q",))
        page = await engine.find_many(before, limit=2)
        assert [task.created_at for task in page.items] == [BEGIN + 599 * SECOND, BEGIN + 598 * SECOND]
        assert "0023" in engine.migrated
