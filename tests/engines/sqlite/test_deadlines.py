"""Many tasks whose deadline passes at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from msgspec import structs
from tests.stores import open_store

from tasker.engines.sqlite.waiters import OVERDUE_AT_ONCE
from tasker.model import Status
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)


async def test_one_transaction_fails_some_overdue_tasks_and_starts_none(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_store(tmp_path / "tasker.db", clock) as engine:
        batches: list[int] = []
        engine.watch(lambda changes: batches.append(sum(change.status is Status.FAILED for change in changes)))
        driver, number = Driver(engine, clock), 3 * OVERDUE_AT_ONCE + 1
        drafts = [
            structs.replace(make_draft(clock.now()), deadline=clock.now() + SECOND) for _ in range(number)
        ]  # fmt: skip
        await engine.submit(drafts)
        clock.advance(timedelta(seconds=2))
        later = make_draft(clock.now())
        await engine.submit([later])
        started: list[object] = []
        while not started:
            started += [claim.task_id for claim in await driver.claim(number)]
        assert started == [later.task_id]
        while sum(batches) < number:
            assert await driver.claim(number) == []
        assert max(batches) == OVERDUE_AT_ONCE
