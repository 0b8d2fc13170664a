"""Time on the event loop after a step of the wall clock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.stores import open_store

from tasker.engines.sqlite.commits import GroupCommit
from tasker.testing import Driver, ManualClock, make_draft

HOUR = timedelta(hours=1)
_GRAIN = 100
"""SQLite's instructions that are counted as one."""


async def _longest_hold(path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int, step: timedelta) -> int:
    """Return the instructions of the busiest transaction that follows a step, with `waiting` tasks delayed or due."""
    clock, counts, ran = ManualClock(), [0], [0]

    def counted(commits: Any) -> None:
        counts.append(0)
        begin(commits)

    def tick() -> bool:
        counts[-1] += 1
        return False

    async with open_store(path, clock) as engine:
        now = clock.now()
        for delay in (timedelta(minutes=2), None):
            for _ in range(0, waiting, 500):
                await engine.submit([make_draft(now, delay=delay) for _ in range(500)])
        connection: apsw.Connection = engine._commits._connection
        begin = GroupCommit._begin
        with monkeypatch.context() as patch:
            patch.setattr(GroupCommit, "_begin", counted)
            connection.set_progress_handler(tick, _GRAIN)
            clock.set(clock.now() + step)
            await Driver(engine, clock).claim(1)
            while engine._clock_steps.is_behind or engine._partitions.has_more_to_do:
                ran[0] += 1
                await Driver(engine, clock).claim(1)
            connection.set_progress_handler(None)
        assert ran[0] > 1, "it was done at once: this run proves nothing"
        return max(counts)


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "back"])
async def test_the_longest_transaction_does_not_grow_with_the_number_of_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    few = await _longest_hold(tmp_path / "few" / "tasker.db", monkeypatch, 1500, step)
    many = await _longest_hold(tmp_path / "many" / "tasker.db", monkeypatch, 12000, step)
    assert many < 2 * few
