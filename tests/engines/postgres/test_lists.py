"""Lists on PostgreSQL: what the contract of all engines cannot see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasker.engines.postgres import PostgresEngine
from tasker.engines.shared.looks import Look
from tasker.model import TaskFilter
from tasker.testing import Driver


async def test_a_look_that_has_found_enough_ends_its_steps(
    driver: Driver, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are only abandoned would end at any later time, when their connection serves others."""
    lists, steps, ended = engine._lists, engine._lists._steps, []

    async def noted(*values: Any) -> AsyncIterator[Any]:
        try:
            async for way in steps(*values):
                yield way
        finally:
            ended.append(True)

    async def query(connection: Any) -> tuple[int, list[bool]]:
        rows = await lists._rows(connection, "seq", TaskFilter(), 1, Look.after(None, lists._bounds, 1))
        return len(rows), list(ended)

    monkeypatch.setattr(lists, "_steps", noted)
    for _ in range(3):
        await driver.submit()
    assert await engine._connections.look(query) == (1, [True])
