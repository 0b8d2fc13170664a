"""Limits that another process sets in the very moment of a claim, or of another change."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.engines.postgres.conftest import MakeEngine

from tasker.engine import ClaimRequest
from tasker.engines.postgres import PostgresEngine
from tasker.model import Claim
from tasker.model.queues import QueueChange
from tasker.testing import Driver, ManualClock


async def claim_late(engine: PostgresEngine, lines: list[str]) -> list[Claim]:
    """Claim what an earlier look saw."""
    request = ClaimRequest(worker="late", types=("sum",), limit=5, lease_for=timedelta(seconds=30))
    claims, _ = await engine._transact(
        lambda connection, news, _again: engine._attempts.claim(connection, news, request, lines)
    )
    return claims


@pytest.mark.parametrize(("change", "started"), [(QueueChange(paused=True), 0), (QueueChange(concurrency=1), 1)])
async def test_a_claim_that_looked_before_a_limit_was_set_starts_nothing(
    engine: PostgresEngine, another: MakeEngine, clock: ManualClock, change: QueueChange, started: int
) -> None:
    other, driver = await another(), Driver(engine, clock)
    for _ in range(3):
        await driver.submit()
    lines, _ = await engine._look()
    await other.queues.change("default", change)
    assert await claim_late(engine, lines) == []
    assert len(await driver.claim(5)) == started, "what was not started is in line still"
    await other.queues.change("default", QueueChange(paused=False, concurrency=None))
    assert len(await driver.claim(5)) == 3 - started


async def test_a_queue_whose_settings_go_and_come_at_once_keeps_the_new_ones(
    engine: PostgresEngine, another: MakeEngine
) -> None:
    other = await another()
    for limit in range(1, 6):
        await engine.queues.change("default", QueueChange(paused=True))
        await asyncio.gather(
            engine.queues.change("default", QueueChange(paused=False)),
            other.queues.change("default", QueueChange(concurrency=limit)),
        )
        assert (await engine.queues.find_all())[0].settings.concurrency == limit
        await engine.queues.change("default", QueueChange(concurrency=None))
