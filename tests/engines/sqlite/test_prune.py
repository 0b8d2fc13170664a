"""A step of pruning is bounded: by rows and statements, whatever the tasks hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.contract.bulk import act
from tests.stores import open_store

from tasker.engines.sqlite import SqliteEngine, retention
from tasker.model import NewEvent, Report
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft, make_key

HOUR = timedelta(hours=1)
CLOCK = ManualClock()
SAID = Report(events=(NewEvent(type="output", time=CLOCK.now(), data=b"{}"),) * 60)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[Driver]:
    clock = ManualClock()
    async with open_store(tmp_path / "tasker.db", clock) as engine:
        yield Driver(engine, clock)


async def finish(driver: Driver, count: int, report: Report | None = None, **options: object) -> None:
    """End `count` tasks that are kept for an hour, and let them expire."""
    drafts = [make_draft(driver.clock.now(), retention=HOUR, **options) for _ in range(count)]  # type: ignore[arg-type]
    await driver.engine.submit(drafts)
    for claim in await driver.claim(count):
        await driver.finish(claim, Succeeded(b"6"), report)
    driver.clock.advance(HOUR)  # type: ignore[attr-defined]


async def test_tasks_are_erased_in_rounds_of_a_few_statements(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements for each task cost ten times as much as those for a list of tasks."""
    monkeypatch.setattr(retention, "_STEP", 1e9)
    await finish(driver, 500, tags=("a", "b"))
    statements: list[str] = []
    assert isinstance(driver.engine, SqliteEngine)
    connection: apsw.Connection = driver.engine._commits._connection

    def note(event: dict[str, Any]) -> None:
        statements.append(event["sql"])

    connection.trace_v2(apsw.SQLITE_TRACE_STMT, note)
    assert await driver.engine.prune(limit=500) == 500
    connection.trace_v2(0, None)
    assert len(statements) <= 50
    assert sum("DELETE FROM task WHERE" in statement for statement in statements) == 2


MOST = retention._ROWS_AT_ONCE
SIZE = retention._STEP_SIZE
KINDS = {
    "small": (300, {}, None, retention._AT_ONCE),
    "with tags": (60, {"tags": tuple(map(str, range(20)))}, None, MOST // 22 + 1),
    "large": (6, {"params": b'["' + b"x" * (SIZE // 3) + b'"]'}, None, 3),
    "with long logs": (40, {}, SAID, 0),
}


@pytest.mark.parametrize(("count", "options", "report", "erased"), KINDS.values(), ids=KINDS)
async def test_a_round_is_bounded_whatever_the_tasks_hold(
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    options: dict[str, object],
    report: Report | None,
    erased: int,
) -> None:
    monkeypatch.setattr(retention, "_STEP", 0.0)  # one round takes up a step
    await finish(driver, count, report, **options)
    assert await driver.engine.prune(limit=500) > 0
    assert isinstance(driver.engine, SqliteEngine)
    connection: apsw.Connection = driver.engine._points
    assert count - connection.execute("SELECT count(*) FROM task").get == erased
    if report is not None:
        assert connection.execute("SELECT count(*) FROM task_event").get == count * len(report.events) - 500
    while await driver.engine.prune(limit=500):
        pass
    tables = ("task", "task_tag", "task_event", "attempt")
    assert [connection.execute(f"SELECT count(*) FROM {table}").get for table in tables] == [0] * 4


async def test_keys_take_a_step_of_their_own(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_STEP", 0.0)
    now, keys = driver.clock.now(), retention._KEYS_AT_ONCE + 20
    drafts = [make_draft(now, retention=HOUR, idempotency=make_key(now, str(number))) for number in range(keys)]
    await driver.engine.submit(drafts)
    await act(driver.engine, "cancel", [draft.task_id for draft in drafts])
    driver.clock.advance(24 * HOUR)  # type: ignore[attr-defined]
    assert [await driver.engine.prune(limit=500) for _ in range(4)] == [keys - 20, 20, keys, 0]


async def test_a_step_cuts_off_a_few_pages(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_STEP", 1e9)
    await finish(driver, 20, params=b'["' + b"x" * SIZE + b'"]')
    assert isinstance(driver.engine, SqliteEngine)
    connection: apsw.Connection = driver.engine._points
    sizes = [connection.pragma("page_count")]
    while await driver.engine.prune(limit=500):
        sizes.append(connection.pragma("page_count"))
    steps = [before - after for before, after in pairwise(sizes)]
    assert 500 <= max(steps) <= 502, "with the pages that map these"
    assert connection.pragma("freelist_count") <= retention._SPARE_PAGES
    assert sizes[-1] < sizes[0] / 5
