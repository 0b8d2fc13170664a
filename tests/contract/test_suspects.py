"""Tasks that saw several ends of the service in a row: apart from the others until one attempt ends well."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tasker.clock import SystemClock
from tasker.engines.protocol import Engine
from tasker.model import Status
from tasker.rules.lifecycle import MAX_INTERRUPTIONS, Crashed, Interrupted, Outcome, Released, Snoozed, Succeeded
from tasker.testing import Driver, ManualClock

SECOND = timedelta(seconds=1)


async def make_suspect(driver: Driver) -> None:
    await driver.submit()
    for _ in range(MAX_INTERRUPTIONS):
        assert await driver.finish(await driver.claim_one(), Interrupted())


async def test_a_suspect_that_crashed_is_claimed_when_it_is_due_again(make_engine) -> None:
    """The end of its backoff must wake the claims of suspects like any other claim."""
    clock = SystemClock()
    engine = await make_engine(clock)
    driver = Driver(engine, clock)
    await make_suspect(driver)
    claim = await driver.claim_one(suspects=1)
    assert await driver.finish(claim, Crashed("killed"))
    async with asyncio.timeout(30):
        [again] = await driver.claim(0, suspects=1, wait_for=timedelta(minutes=1))
    assert (again.attempt, again.crashes) == (claim.attempt + 1, 1)


@pytest.mark.parametrize("outcome", [Crashed("killed"), Released(), Interrupted()])
async def test_a_suspect_stays_one_until_it_ends_well(driver: Driver, clock: ManualClock, outcome: Outcome) -> None:
    await make_suspect(driver)
    assert await driver.finish(await driver.claim_one(suspects=1), outcome)
    clock.advance(60 * SECOND)
    assert await driver.claim(1) == [], "it came back among the others, where it can end the service again"
    assert len(await driver.claim(0, suspects=1)) == 1


async def test_an_end_of_its_own_clears_a_suspect(driver: Driver, clock: ManualClock) -> None:
    await make_suspect(driver)
    assert await driver.finish(await driver.claim_one(suspects=1), Snoozed(SECOND))
    clock.advance(SECOND)
    assert await driver.finish(await driver.claim_one(), Succeeded(b"6"))


async def test_a_suspect_among_other_tasks_waits_for_none_of_them(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await make_suspect(driver)
    others = [await driver.submit() for _ in range(3)]
    ordinary = await driver.claim(10)
    [suspect] = await driver.claim(0, suspects=1)
    assert [claim.task_id for claim in ordinary] == others
    assert suspect.task_id not in others
    found = await engine.find(suspect.task_id)
    assert found is not None
    assert found.status is Status.RUNNING
