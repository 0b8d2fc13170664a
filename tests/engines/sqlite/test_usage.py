"""Usage and failed commits: rolled-back work is not counted, repeated work is counted once."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

import apsw
import pytest
from tests.stores import open_store

from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import Unavailable
from tasker.model import Report
from tasker.model.usage import UsageFilter
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock

EVER = UsageFilter(first=date(2000, 1, 1), last=date(9999, 1, 1))
SPENT = Report(usage=b'{"cost":0.000000001}')


@pytest.mark.parametrize("error", [ZeroDivisionError("a fault in one piece of work"), apsw.FullError("no space")])
async def test_a_rolled_back_batch_is_not_counted(tmp_path: Path, error: Exception) -> None:
    async with open_store(tmp_path / "tasker.db", ManualClock()) as engine:
        driver = Driver(engine, ManualClock())
        for _ in range(3):
            await driver.submit()
        claims = await driver.claim(3)

        async def poison() -> None:
            def work(_: Transaction) -> None:
                raise error

            await engine._commits.run(work)

        ends = [driver.finish(claim, Succeeded(b"6"), SPENT) for claim in claims]
        told = await asyncio.gather(
            *ends, poison(), return_exceptions=True
        )  # it comes last, after the work that is rolled back
        if isinstance(told[0], Unavailable):  # the disk's fault: all was rolled back, and is done again
            assert await engine.usage.find_many(EVER, group=(), limit=1) == []
            assert (
                await asyncio.gather(*(driver.finish(claim, Succeeded(b"6"), SPENT) for claim in claims)) == [True] * 3
            )
        else:
            assert told[:3] == [True] * 3
        [row] = await engine.usage.find_many(EVER, group=(), limit=1)
        assert (row.attempts, row.completed, row.cost) == (3, 3, 3)
