"""The queries of steps and families read what they need by an index, however many others there are."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tasker.engines.postgres import PostgresEngine
from tasker.engines.postgres.tables import numbered

SQL = Callable[..., Awaitable[list[Any]]]
FAMILIES, CHILDREN = 400, 25
NOW = datetime(2026, 1, 2, tzinfo=UTC)
FILL = f"""
INSERT INTO task (seq, task_id, type, queue, status, reason, priority, created_at, due_at, lined, max_attempts, policy,
                  params, has_dependants)
SELECT n, lpad(to_hex(n), 32, '0')::uuid, 'sum', 'q', CASE WHEN n % 50 = 0 THEN 'running' ELSE 'completed' END, NULL, 0,
       now(), now(), false, 1, '{{}}', '[]', true
FROM generate_series(1, {FAMILIES} * ({CHILDREN} + 1)) AS n;
INSERT INTO step (task_seq, number, key, name, kind, attempt, started_at, total, stored, asks, is_awaited)
SELECT n, k, 'step' || k, 'step', CASE k WHEN 1 THEN 'children' WHEN 2 THEN 'input' ELSE 'step' END, 1, now(),
       {CHILDREN}, {CHILDREN}, CASE WHEN k = 2 AND n % 40 = 0 THEN '' END, n % 40 = 0 AND k < 3
FROM generate_series(1, {FAMILIES}) AS n, generate_series(1, 20) AS k;
INSERT INTO child (seq, parent, number, place, level, is_detached, is_held, is_settled)
SELECT {FAMILIES} + (n - 1) * {CHILDREN} + k, n, 1, k, 1, false, n % 40 = 0 AND k > 20, n % 40 > 0
FROM generate_series(1, {FAMILIES}) AS n, generate_series(1, {CHILDREN}) AS k;
INSERT INTO task_group (group_id, owner, name, open, completed, failed, cancelled, is_open, ends, created_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, CASE WHEN n < 9 THEN 'me' ELSE '' END, 'group' || n, n % 2, 0, 0, 0, n % 2, 0,
       now()
FROM generate_series(1, 9000) AS n;
INSERT INTO group_dependency (task_seq, owner, name, ends, strict)
SELECT n, '', 'group' || 11 + n % 2 * 2, 0, false FROM generate_series(1, 9000) AS n;
ANALYZE task; ANALYZE step; ANALYZE child; ANALYZE task_group; ANALYZE group_dependency;
"""
"""Tables in which reading everything would cost more than a few indexes do."""

MOST = 20 * CHILDREN
"""Rows that a query may read: a few times those of one family, where there are hundreds."""
ONE, TWO, ID = [7], [7, 9], UUID(int=7)
QUERIES: dict[str, tuple[Any, ...]] = {
    "family_of_ended": (ONE,),
    "lock_steps": (TWO, [1, 1], ONE, ["step1"], ONE, ONE),
    "count_children": (TWO, [1, 1], *[[1, 1]] * 4),
    "await_steps": (ONE, ["step1"], ONE),
    "wake": (TWO, [True, False]),
    "release_children": (ONE, [1], [3]),
    "still_held": (ONE, [1]),
    "may_run_again": (ONE,),
    "unsettled_children": (ONE, 500),
    "parents_that_ended": (ONE,),
    "settle_children": ([500, 501],),
    "expire_children": ([500, 501],),
    "unsettle": ([500, 501],),
    "left_unsettled": (ONE,),
    "keep_children": (ONE,),
    "children_to_run_again": (7, 1, -1, 500),
    "children_to_forget": (ONE, [1]),
    "recount": (ONE,),
    "await_no_more": (ONE,),
    "attend": (ONE,),
    "unsettled_parents": (0, 5),
    "go_on_alone": (ONE,),
    "parents_to_attend": (0, 5, 1000),
    "unsettled_groups": (500,),
    "total_children": (7,),
    "children_at": (ID, "step1", 0, 10, 1000),
    "child_counts": (7,),
    "asked_of": (7,),
    "step_by_key": (7, "step1"),
    "delete_some_steps": (ONE, 5, 1000),
    "close_question": (7, "step2", b"1", ""),
}
SHARED: dict[str, dict[str, Any]] = {
    "steps_of": {"task_id": ID},
    "some_steps_of": {"task_id": ID, "keys": ["step1"]},
    "family_of": {"task_id": ID},
    "questions": {"limit": 5},
    "questions_of": {"owner": "me", "limit": 5},
    "groups_page": {"is_open": 1, "below": 1 << 40, "limit": 5},
    "groups_page_of": {"owner": "me", "is_open": 1, "below": 1 << 40, "limit": 5},
    "erase_secret_values": {"task_ids": [ID]},
}


def rows_read(node: Any) -> float:
    """Return how many rows the nodes of a plan, as it was run, have read and thrown away or passed on."""
    own = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    return own * node["Actual Loops"] + sum(map(rows_read, node.get("Plans", ())))


@pytest.fixture
async def filled(engine: PostgresEngine, sql: SQL) -> PostgresEngine:
    for statement in FILL.split(";\n"):
        for part in filter(str.strip, statement.split("; ") if "ANALYZE" in statement else [statement]):
            await sql(part)
    return engine


async def test_every_query_of_steps_and_families_goes_by_an_index(filled: PostgresEngine, sql: SQL) -> None:
    given = {name: (filled._queries[name], values) for name, values in QUERIES.items()}
    for name, named in SHARED.items():
        text, names = numbered(filled._queries[name])
        given[name] = text, tuple(named[one] for one in names)
    many: dict[str, float] = {}
    for name, (text, values) in given.items():
        await sql("BEGIN")
        [(plan,)] = await sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *values)
        await sql("ROLLBACK")
        if (count := rows_read(json.loads(plan)[0]["Plan"])) > MOST:
            many[name] = count
    assert many == {}
