"""Reading a whole list leaves the processor to tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.stores import open_store

from tasker.engines.sqlite.scan_pace import GRACE, LONGEST, REST, ScanPace
from tasker.model import TaskFilter
from tasker.testing import ManualClock, make_draft


@pytest.mark.parametrize(
    ("scans", "later", "rest"),
    [
        ([], 0, 0),
        ([GRACE / REST], 0, 0),  # a few pages
        ([GRACE / REST, 0.01], 0, 0.01 * REST),
        ([GRACE / REST, 0.01], 0.01 * REST, 0),
        ([GRACE / REST] * 2, 1000, 0),
        ([1.0] * 10, 0, LONGEST),
    ],
)
def test_rest(scans: list[float], later: float, rest: float) -> None:
    now = 100.0
    pace = ScanPace(lambda: now)
    for took in scans:
        pace.took(took)
    now += later
    assert pace.rest() == pytest.approx(rest)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_page_that_goes_on_rests_only_while_tasks_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_busy: bool
) -> None:
    async with open_store(tmp_path / "data" / "tasker.db", clock := ManualClock()) as engine:
        storing = engine.submit([make_draft(clock.now()) for _ in range(3)])
        assert not engine._commits.is_busy
        storing = asyncio.ensure_future(storing)
        await asyncio.sleep(0)
        assert engine._commits.is_busy
        await storing
        first = await engine.find_many(TaskFilter(), limit=1)
        rests: list[str] = []
        monkeypatch.setattr(type(engine._commits), "is_busy", is_busy)
        monkeypatch.setattr(engine._pace, "rest", lambda: rests.append("rest") or 0.0)
        await engine.find_many(TaskFilter(), limit=1)
        assert rests == [], "the first page of a list rests"
        await engine.find_many(TaskFilter(), limit=1, cursor=first.next_cursor)
        assert rests == ["rest"] * is_busy
