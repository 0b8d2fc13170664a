"""The counts of one failure group are found without reading those of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from tasker.engines.postgres import PostgresEngine
from tasker.engines.postgres.sql import queries
from tasker.engines.postgres.tables import numbered
from tasker.testing import START

Sql = Callable[..., Awaitable[list[Any]]]
MANY = """
INSERT INTO failure_hour (owner, hour, failure, type, queue, count, last_at)
SELECT 'ada', pg_catalog.now() - number % 100 * interval '1 hour', 'f' || number % 500, 'sum', 'default', 1,
       pg_catalog.now()
FROM pg_catalog.generate_series(1, 20000) AS number
"""


@pytest.mark.parametrize("name", ["one_failure_reach", "one_failure_page"])
async def test_one_group_is_found_by_its_index(engine: PostgresEngine, sql: Sql, name: str) -> None:
    await sql(MANY)
    await sql("ANALYZE failure_hour")
    [(schema,)] = await sql("SELECT pg_catalog.current_schema()::text")
    statement, names = numbered(queries(schema)[name])
    values: dict[str, Any] = {
        "failure": "f1", "by_owner": True, "owner": "ada", "since": START - timedelta(days=90), "most": 50_000,
        "by_type": False, "types": [], "by_queue": False, "queues": [], "goes_on": False, "last_at": START,
        "last_owner": "", "last_failure": "", "last_type": "", "limit": 10,
    }  # fmt: skip
    plan = await sql(f"EXPLAIN {statement}", *(values[given] for given in names))
    assert any("failure_hour_failure" in line for (line,) in plan), plan
