"""Claims and lists do not get slower with history: checked by query plans and counted steps."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import apsw
import pytest
from tests.stores import open_store

from tasker.engines.shared import looks
from tasker.engines.shared.looks import Bounds, Look
from tasker.engines.sqlite import lists
from tasker.engines.sqlite.result_files import Results
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.storage import connect
from tasker.engines.sqlite.stores import queues
from tasker.engines.sqlite.stores.stats import count_open
from tasker.model import Extra, Status, TaskFilter
from tasker.rules.failures import fingerprint
from tasker.rules.lifecycle import Cancelled, Failed, Succeeded, problem
from tasker.testing import START, Driver, ManualClock, make_draft

OPEN_TASKS_ONLY = (
    "next_partition", "next_level", "due_in_level", "due_suspects", "any_suspect", "next_due", "due_partitions",
    "expired", "expire_all", "due_by_time", "oldest_due", "own_oldest_due", "limited_in_level", "running_in_queue",
    "running_with_key", "running_with_own_key", "any_parked", "parked_keys", "next_queue", "next_queue_of",
    "has_pending_of_nobody",
)  # fmt: skip
"""Queries of every claim, heartbeat and count: they must read only open tasks."""
NAMED = {
    "now": 1, "types": "[]", "limit": 1, "shut": "[]", "parked": 1 << 60, "queue": "", "type": "", "key": "",
    "owner": "", "queues": "[]",
}  # fmt: skip
HISTORY = 5000


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store with a few tasks of every status."""
    path = tmp_path / "data" / "tasker.db"
    clock = ManualClock()
    async with open_store(path, clock) as engine:
        driver = Driver(engine, clock)
        for outcome in (Succeeded(b"6"), Failed(problem("task-failed", "no")), Cancelled()):
            for number in range(20):
                extra = Extra(schedule_id=UUID(int=1)) if number % 10 == 0 else None
                await driver.submit(make_draft(clock.now(), tags=("rare",) if extra else (), extra=extra))
                await driver.finish(await driver.claim_one(), outcome)
        await engine.submit([make_draft(clock.now()) for _ in range(40)])
        await driver.claim(20)
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    connection = connect(path)
    yield connection
    connection.close()


def plan(connection: apsw.Connection, query: str, values: Any) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]


def places(query: str) -> int:
    """Return how many positional values a query takes; a numbered one may occur more than once."""
    return len(set(re.findall(r"\?\d+", query))) or query.count("?")


def partial_indexes(connection: apsw.Connection) -> set[str]:
    found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'task'")
    return {name for name, sql in found if re.search(r"WHERE\s+status = '(pending|running)'", sql or "")}


@pytest.mark.parametrize("name", OPEN_TASKS_ONLY)
def test_queries_for_open_tasks_use_an_index_of_open_tasks(connection: apsw.Connection, name: str) -> None:
    query = re.sub("--.*", "", QUERIES[name])
    values: Any = NAMED if ":" in query else ("",) * places(query)
    steps = plan(connection, query, values)
    touching = [step for step in steps if re.match(r"(SCAN|SEARCH) task\b", step)]
    assert touching, f"{name} does not touch the tasks: {steps}"
    for step in touching:
        index = re.search(r"INDEX (\w+)", step)
        assert index, f"{name}: {step}"
        assert index[1] in partial_indexes(connection), f"{name}: {step}"


@pytest.mark.parametrize("name", ["next_level", "due_in_level", "limited_in_level", "next_due", "next_partition"])
def test_partitions_are_read_in_order_and_never_sorted(connection: apsw.Connection, name: str) -> None:
    query = re.sub("--.*", "", QUERIES[name])
    steps = plan(connection, query, ("",) * places(query))
    assert [step for step in steps if "TEMP B-TREE" in step] == []


class Steps:
    """Counts the instructions of SQLite's virtual machine, which are the same on every machine."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.count = 0
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._note)

    def _note(self, event: dict[str, Any]) -> None:
        self.count += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]


def list_steps(path: Path, where: TaskFilter) -> int:
    connection = connect(path, read_only=True)
    steps, results = Steps(connection), Results(path.with_name("results"), 1 << 18)
    bounds = Bounds(seconds=60, first=50)  # small steps, beside which the history is long
    page = lists.find_many(connection, where, 10, Look.after(None, bounds), 0, results)
    if page.next_cursor is not None:
        lists.find_many(connection, where, 10, Look.after(page.next_cursor, bounds), 0, results)
    connection.close()
    return steps.count


async def claim_steps(path: Path) -> int:
    """Count the steps of all queries of a claim, on a connection that can be watched."""
    connection = connect(path)
    steps = Steps(connection)
    now = 1 << 60
    connection.execute(QUERIES["next_partition"], ("", "")).fetchall()
    connection.execute(QUERIES["next_level"], ("default", "sum", 1 << 31)).fetchall()
    connection.execute(QUERIES["due_in_level"], ("default", "sum", 0, now, 10)).fetchall()
    connection.execute(QUERIES["due_suspects"], NAMED | {"now": now, "types": '["sum"]'}).fetchall()
    connection.execute(QUERIES["expired"], (now, 10)).fetchall()
    connection.close()
    return steps.count


def add_history(path: Path) -> None:
    """Add many completed tasks, newer than all others: a list, newest first, would have to scan them."""
    connection = connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(task)") if row[1] not in ("seq", "task_id")]
    names = ", ".join(columns)
    with connection:
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {HISTORY})"
            f" INSERT INTO task (task_id, {names}) SELECT randomblob(16), {names} FROM task, n WHERE seq = 2"
        )
    connection.execute(
        "INSERT OR REPLACE INTO task_span SELECT seq >> 9, min(created_at), max(created_at) FROM task GROUP BY seq >> 9"
    )
    connection.execute("UPDATE task SET type = 'reverse', tags = '[]' WHERE status = 'completed'")
    connection.close()


async def test_a_claim_costs_the_same_with_a_long_history(path: Path) -> None:
    before = await claim_steps(path)
    add_history(path)
    after = await claim_steps(path)
    assert after <= before * 1.1, f"{before} steps before, {after} with {HISTORY} more finished tasks"


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(TaskFilter(), id="everything"),
        *(pytest.param(TaskFilter(status=(status,)), id=status.value) for status in Status),
        pytest.param(TaskFilter(status=(Status.PENDING, Status.RUNNING)), id="open"),
        pytest.param(TaskFilter(status=(Status.FAILED, Status.CANCELLED)), id="failed or cancelled"),
        pytest.param(TaskFilter(types=("sum",)), id="type"),
        pytest.param(TaskFilter(types=("sum",), status=(Status.FAILED,)), id="type and status"),
        pytest.param(TaskFilter(types=("sum", "no")), id="types"),
        pytest.param(TaskFilter(queues=("no", "nor")), id="queues"),
        pytest.param(TaskFilter(schedule_id=UUID(int=1)), id="schedule"),
        pytest.param(TaskFilter(error=fingerprint("", "sum", problem("task-failed", "no")).failure_id), id="error"),
        pytest.param(TaskFilter(tag="rare"), id="tag"),
        pytest.param(TaskFilter(tag="rare", status=(Status.FAILED,)), id="tag and status"),
        pytest.param(TaskFilter(owner="alice"), id="owner"),
        pytest.param(TaskFilter(owner="alice", status=(Status.FAILED,)), id="owner and status"),
        pytest.param(TaskFilter(owner="alice", status=(Status.COMPLETED,)), id="owner and completed"),
        pytest.param(TaskFilter(created_before=START + timedelta(days=1)), id="until a time"),
        pytest.param(TaskFilter(created_after=START - timedelta(days=1)), id="since a time"),
    ],
)
async def test_a_list_costs_the_same_with_a_long_history(path: Path, where: TaskFilter) -> None:
    before = list_steps(path, where)
    add_history(path)
    after = list_steps(path, where)
    assert after <= max(before * 2, 2000), f"{before} steps before, {after} with {HISTORY} more finished tasks"


async def test_how_far_an_owners_list_looked_is_found_by_its_own_tasks_alone(path: Path) -> None:
    async with open_store(path, ManualClock()) as engine:
        await engine.submit([make_draft(START, owner="ada")])
    add_history(path)
    connection = connect(path, read_only=True)
    steps = Steps(connection)
    found = lists._time_at(connection, TaskFilter(owner="ada"), 1 << 60)
    connection.close()
    assert found == START
    assert steps.count < 200


async def test_a_look_that_has_waited_for_its_turn_goes_as_far(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Look.after(None, Bounds(seconds=60, first=10))
    later = time.monotonic() + 3600
    monkeypatch.setattr(looks, "time", SimpleNamespace(monotonic=lambda: later))
    connection = connect(path, read_only=True)
    counted = lists.count(connection, TaskFilter(), look, 0)
    connection.close()
    assert (counted.count, counted.next_cursor) == (100, None)


def add_pending(path: Path, owner: str, names: range, each: int) -> None:
    """Add pending tasks of an owner: `each` in every one of some queues (q1, ...)."""
    connection = connect(path)
    (pending,) = connection.execute("SELECT min(seq) FROM task WHERE status = 'pending'").fetchone()
    columns = [row[1] for row in connection.execute("PRAGMA table_info(task)")]
    others = ", ".join(name for name in columns if name not in ("seq", "task_id", "queue", "owner"))
    with connection:
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {len(names) * each - 1})"
            f" INSERT INTO task (task_id, queue, owner, {others})"
            f" SELECT randomblob(16), 'q' || ({names.start} + i % {len(names)}), '{owner}', {others}"
            f" FROM task, n WHERE seq = {pending}"
        )
        connection.execute("DELETE FROM open_task")
        connection.execute(
            "INSERT INTO open_task SELECT owner, queue, type, count(*), 0, 0 FROM task WHERE status = 'pending'"
            " GROUP BY owner, queue, type"
        )
    connection.close()


def own_steps(path: Path, owner: str, names: list[str] | None) -> int:
    """Count the steps of a page of an owner's queues: of all its queues if no names are given."""
    connection = connect(path, read_only=True)
    steps = Steps(connection)
    if names is None:
        queues.find_open(connection, owner)
    else:
        count_open(connection, 1 << 59, owner, names)
    connection.close()
    return steps.count


@pytest.mark.parametrize("owner", ["ada", "eve", ""])
def test_open_queues_are_found_without_scanning_their_tasks(path: Path, owner: str) -> None:
    add_pending(path, "ada", range(1, 11), 100)
    add_pending(path, "eve", range(1, 3), 1)
    before = own_steps(path, owner, None)
    add_pending(path, "ada", range(1, 11), 2000)
    after = own_steps(path, owner, None)
    assert after <= before * 1.1 + 100, f"{before} steps before, {after} with 20,000 more tasks"


def test_an_owners_queues_are_counted_without_reading_other_queues_or_owners(path: Path) -> None:
    add_pending(path, "eve", range(1, 3), 5)
    before = own_steps(path, "eve", ["q1", "q2", "other"])
    add_pending(path, "eve", range(3, 1000), 5)
    add_pending(path, "ada", range(1, 3), 2000)
    after = own_steps(path, "eve", ["q1", "q2", "other"])
    assert after <= before * 1.1 + 100, f"{before} steps before, {after} with many more tasks"


@pytest.mark.parametrize(("name", "index"), [("unpark", "task_parked"), ("unpark_own", "task_parked_own")])
def test_the_next_task_of_a_key_is_found_without_reading_others(
    connection: apsw.Connection, name: str, index: str
) -> None:
    steps = plan(connection, QUERIES[name], NAMED)
    assert any(re.search(rf"SEARCH task USING (COVERING )?INDEX {index} ", step) for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize("name", ["one_failure_reach", "one_failure_page"])
def test_a_failure_group_is_counted_without_reading_others(connection: apsw.Connection, name: str) -> None:
    values = NAMED | dict.fromkeys(re.findall(r":(\w+)", QUERIES[name]), 0)
    steps = plan(connection, QUERIES[name], values)
    [step] = [step for step in steps if "failure_hour " in step]
    assert re.search(
        r"SEARCH \S*failure_hour USING (COVERING )?INDEX failure_hour_failure \(failure=\? AND hour>", step
    )
