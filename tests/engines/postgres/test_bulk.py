"""Bulk actions on tasks that other transactions hold: they wait only where they hold nothing that others wait for."""

from __future__ import annotations

import asyncio

from tests.contract.bulk import finish, make_bulk

from tasker.engines.postgres import PostgresEngine
from tasker.model import Status
from tasker.model.bulk import Step
from tasker.testing import Driver, ManualClock


async def test_tasks_that_others_hold_are_left_to_a_later_step(
    driver: Driver, engine: PostgresEngine, clock: ManualClock, sql
) -> None:
    ids = [await driver.submit() for _ in range(3)]
    bulk = make_bulk("cancel", ids)
    await engine.bulk.create(bulk)
    await sql("BEGIN")
    await sql("SELECT FROM task WHERE task_id = $1 FOR UPDATE", ids[1])
    after = await engine.bulk.step(bulk, Step(task_ids=bulk.rest, place=None))
    assert after is not None
    assert (after.done, after.rest, after.state) == (2, (ids[1],), "running")
    waiting = asyncio.create_task(finish(engine, after))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done(), "it waits for the only task that is left"
    await sql("COMMIT")
    assert (await waiting).done == 3
    assert (await driver.get(ids[1])).status is Status.CANCELLED


async def test_a_step_whose_answer_was_lost_is_not_done_again(driver: Driver, engine: PostgresEngine) -> None:
    """Its transaction is tried again, finds the next version, and returns that."""
    ids = [await driver.submit() for _ in range(2)]
    bulk = make_bulk("cancel", ids)
    await engine.bulk.create(bulk)
    step = Step(task_ids=tuple(ids[:1]), place=None, rest=tuple(ids[1:]))
    transact = engine._connections._transact_once
    lost = []

    async def and_lose_the_first_answer(work, tx):
        result = await transact(work, tx)
        if not lost:
            lost.append(tx)
            raise OSError("the answer is lost")
        return result

    engine._connections._transact_once = and_lose_the_first_answer  # type: ignore[method-assign]
    after = await engine.bulk.step(bulk, step)
    assert lost
    assert after == await engine.bulk.find(bulk.bulk_id)
    assert after is not None
    assert (after.done, after.skips, after.version) == (1, {}, 2)
