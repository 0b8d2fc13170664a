"""Limits that another process sets in the very moment of a claim, or of another change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine
from tasker.engines.postgres.waiters import Window
from tasker.engines.protocol import ClaimRequest
from tasker.model import Claim, Draft
from tasker.model.queues import QueueChange
from tasker.rules.lifecycle import Snoozed, Succeeded
from tasker.testing import Driver, ManualClock, make_draft


async def claim_late(engine: PostgresEngine, partitions: list[str]) -> list[Claim]:
    """Claim what an earlier look saw."""
    request = ClaimRequest(worker="late", types=("sum",), limit=5, lease_for=timedelta(seconds=30))
    claims, _ = await engine._connections.transact(lambda tx: engine._starts.claim(tx, request, partitions))
    return claims


@pytest.mark.parametrize(("change", "started"), [(QueueChange(paused=True), 0), (QueueChange(concurrency=1), 1)])
async def test_a_claim_that_looked_before_a_limit_was_set_starts_nothing(
    engine: PostgresEngine, another: MakeEngine, clock: ManualClock, change: QueueChange, started: int
) -> None:
    other, driver = await another(), Driver(engine, clock)
    for _ in range(3):
        await driver.submit()
    partitions, _ = await engine._claims.look(Window())
    await other.queues.change("default", change)
    assert await claim_late(engine, partitions) == []
    assert len(await driver.claim(5)) == started, "what was not started is still queued"
    await other.queues.change("default", QueueChange(paused=False, concurrency=None))
    assert len(await driver.claim(5)) == 3 - started


async def test_a_process_that_runs_nothing_knows_which_queues_share_keys(
    engine: PostgresEngine, another: MakeEngine, clock: ManualClock
) -> None:
    api, driver = await another(), Driver(engine, clock)
    await engine.queues.change("q", QueueChange(concurrency_per_key=1, shared_keys=True))
    first, second, third = (structs.replace(keyed(clock, "q"), owner=owner) for owner in ("ada", "eve", "ada"))
    await engine.submit([first, second, third])
    [claim] = await driver.claim(5)
    await driver.finish(claim, Succeeded(b"6"))
    await api.cancel(second.task_id)  # it has the slot then, and the third is parked behind it
    assert [claim.task_id for claim in await driver.claim(5)] == [third.task_id]


async def test_processes_that_free_slots_of_the_same_queues_do_not_deadlock(
    engine: PostgresEngine, another: MakeEngine, clock: ManualClock, sql: Callable[..., Awaitable[list[Any]]]
) -> None:
    """One ends a task of queue a and gives one of b back; the other does it the other way round, at the same time."""
    both, processes = ("a", "b"), [Driver(engine, clock), Driver(await another(), clock)]
    for queue in both:
        await engine.queues.change(queue, QueueChange(concurrency_per_key=9))
    claims: list[list[Claim]] = []
    for driver in processes:
        await driver.engine.submit([keyed(clock, queue) for queue in both])
        claims.append(sorted(await driver.claim(2), key=lambda claim: claim.queue))
    await sql("BEGIN")
    await sql("SELECT FROM queue FOR UPDATE")
    with capture_logs() as logs:
        ends = [
            asyncio.create_task(driver.finish(claim, Snoozed(timedelta(0)) if claim is own[here] else Succeeded(b"1")))
            for here, (driver, own) in enumerate(zip(processes, claims, strict=True))
            for claim in own
        ]
        while await sql("SELECT count(*) FROM pg_locks WHERE NOT granted") < [(2,)]:
            await asyncio.sleep(0.001)
        await sql("COMMIT")
        assert all(await asyncio.gather(*ends))
    assert [line for line in logs if "Deadlock" in str(line)] == []


def keyed(clock: ManualClock, queue: str) -> Draft:
    return structs.replace(make_draft(clock.now(), queue=queue), concurrency_key="k")


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
