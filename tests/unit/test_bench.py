"""The benchmark's engine without a store stands in for a real one; the stores that it fills are as tasks leave them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bench import fill
from bench.null_engine import NullEngine
from bench.uncounted_app import NoChanges

from tasker.clock import SystemClock
from tasker.engines.protocol import Engine
from tasker.engines.shared.looks import Bounds
from tasker.engines.shared.rollup import Changes
from tasker.engines.sqlite import open_sqlite
from tasker.model import Status, TaskFilter
from tasker.model.failures import FailureFilter
from tasker.model.stats import WINDOWS, StatsFilter, sum_up

METHODS = sorted(name for name in vars(NullEngine) if name in vars(Engine) and not name.startswith("_"))


@pytest.mark.parametrize("name", METHODS)
def test_the_null_engine_takes_what_the_protocol_says(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(engine, name)) for engine in (NullEngine, Engine))
    assert {one.name: one.kind for one in ours.parameters.values()} == {
        one.name: one.kind for one in theirs.parameters.values()
    }


def test_the_engine_that_counts_nothing_has_every_method_that_counts() -> None:
    assert {name for name in vars(Changes) if not name.startswith("_")} <= vars(NoChanges).keys()
    changes = NoChanges(0)
    changes.dropped(("", "sum", "default"), Status.CANCELLED, was_waiting=False)
    assert changes.take() == []


def test_the_null_engine_runs_tasks_itself() -> None:
    assert {"submit", "claim", "complete", "find"} <= {*METHODS}


@pytest.mark.parametrize("make", [fill.history, fill.finished])
def test_what_is_counted_of_a_filled_store_equals_its_tasks(tmp_path: Path, make: Callable[[Path, int], None]) -> None:
    make(tmp_path, 1200)
    asyncio.run(_compare(tmp_path / "tasker.db"))


async def _compare(file: Path) -> None:
    now = SystemClock().now()
    async with open_sqlite(file, SystemClock(), bounds=Bounds(seconds=60)) as engine:

        async def count(**where: Any) -> int:
            return (await engine.count(TaskFilter(**where), at_most=10_000)).number

        rows = await engine.stats.window(StatsFilter(span=WINDOWS["30d"], now=now))
        total = sum_up([row.figures for row in rows])
        assert total.submitted == total.started == sum(total.runs) == sum(total.waits) == await count() == 1200
        for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
            assert getattr(total, status.value) == await count(status=(status,))
        assert await engine.stats.open_counts() == []
        groups = (await engine.failures.find_many(FailureFilter(since=now - timedelta(days=31)), limit=100)).items
        assert sum(group.count for group in groups) == total.failed
        assert [group.count for group in groups] == [await count(error=group.failure_id) for group in groups]
        middle = now - timedelta(days=15)
        assert await count(created_after=middle) + await count(created_before=middle) == 1200
