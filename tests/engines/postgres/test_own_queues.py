"""Queries of owners about their queues read no tasks of others, even where one owner has nearly all of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tasker.engines.postgres.sql import queries
from tasker.testing import Driver, ManualClock, make_draft

Sql = Callable[..., Awaitable[list[Any]]]
MANY = 5000
FEW = 250
"""Rows that a query may have looked at: far fewer than there are."""
COPY = """
INSERT INTO task (task_id, queue, owner, type, status, reason, priority, created_at, due_at, lined, max_attempts,
                  policy, params)
SELECT pg_catalog.gen_random_uuid(), 'q' || number % {queues}, $1, type, status, reason, priority, created_at, due_at,
       true, max_attempts, policy, params
FROM task, pg_catalog.generate_series(1, $2) AS number WHERE owner = 'model'
"""


@pytest.fixture
async def crowd(driver: Driver, clock: ManualClock, sql: Sql) -> None:
    """Two queues with very many tasks of one owner, and one task of another's."""
    await driver.submit(make_draft(clock.now(), owner="model", queue="model"))
    await sql(COPY.format(queues=2), "ada", MANY)
    await sql("DELETE FROM task WHERE owner = 'model'")
    await sql("ANALYZE task")
    await driver.submit(make_draft(clock.now(), owner="eve", queue="q1"))


def rows_seen(plan: dict[str, Any]) -> Iterator[float]:
    """Yield the rows that each step of a plan took or left."""
    yield (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    for step in plan.get("Plans", ()):
        yield from rows_seen(step)


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize(
    ("name", "types", "values"),
    [
        ("open_queues_of", "text", "'eve'"),
        ("open_queues_of", "text", "'ada'"),
        ("open_queues_of", "text", "'nobody'"),
        ("open_queues_of_nobody", "", ""),
        ("own_open_counts", "text[], text", "NULL, 'eve'"),
        ("own_open_counts", "text[], text", "'{q1,q2}', 'eve'"),
        ("own_before", "text, text, int, timestamptz, bigint, bigint", "'eve', 'q1', 0, '2030-01-01', 99999999, 1000"),
    ],
)
async def test_tasks_of_others_are_not_read(
    crowd: None, sql: Sql, mode: str, name: str, types: str, values: str
) -> None:
    [(schema,)] = await sql("SELECT pg_catalog.current_schema()::text")
    asked = f"{name}({types})" if types else name
    await sql(f"SET plan_cache_mode = {mode}")
    await sql(f"PREPARE {asked} AS {queries(schema)[name].rstrip(';')}")
    [(answer,)] = await sql(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {name}{f'({values})' if values else ''}")
    plan = json.loads(answer)[0]["Plan"]
    assert max(rows_seen(plan)) <= FEW, answer
