"""Engine.heartbeat, find_expired, open: which worker has an attempt, until when, and the effect of a restart."""

from __future__ import annotations

from datetime import timedelta

from tests.contract.conftest import open_after_the_end

from tasker.engines.protocol import Engine
from tasker.model import Claim, Lease, RetryPolicy, Status, new_task_id
from tasker.rules.lifecycle import MAX_INTERRUPTIONS, Cancelled, Interrupted, Succeeded
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=30)
MINUTE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)


async def running(driver: Driver, count: int) -> list[Claim]:
    await driver.engine.submit([make_draft(driver.clock.now()) for _ in range(count)])
    return await driver.claim(count)


async def test_a_lease_lasts_as_long_as_was_asked(driver: Driver, clock: ManualClock) -> None:
    [claim] = await running(driver, 1)
    clock.advance(LEASE - INSTANT)
    assert await driver.engine.find_expired(limit=10) == []
    clock.advance(2 * INSTANT)
    assert await driver.engine.find_expired(limit=10) == [claim], "an expired attempt is told just as it was claimed"


async def test_a_heartbeat_extends_from_now(driver: Driver, clock: ManualClock) -> None:
    [claim] = await running(driver, 1)
    clock.advance(20 * SECOND)
    assert await driver.engine.heartbeat([claim.lease], LEASE) == (set(), set())
    clock.advance(LEASE - INSTANT)
    assert await driver.engine.find_expired(limit=10) == []
    clock.advance(2 * INSTANT)
    assert [expired.lease for expired in await driver.engine.find_expired(limit=10)] == [claim.lease]


async def test_a_late_heartbeat_keeps_an_attempt_that_was_not_taken_over(driver: Driver, clock: ManualClock) -> None:
    [claim] = await running(driver, 1)
    clock.advance(MINUTE)
    assert await driver.engine.heartbeat([claim.lease], LEASE) == (set(), set())
    assert await driver.engine.find_expired(limit=10) == []
    assert await driver.finish(claim, Succeeded(b"6"))


async def test_a_heartbeat_answers_for_each_lease_separately(driver: Driver, clock: ManualClock) -> None:
    kept, cancelled, ended, retaken = await running(driver, 4)
    await driver.engine.cancel(cancelled.task_id)
    await driver.finish(ended, Succeeded(b"6"))
    await driver.finish(retaken, Interrupted())
    await driver.claim_one()
    unknown = Lease(new_task_id(clock.now()), 1)
    leases = [kept.lease, cancelled.lease, ended.lease, retaken.lease, unknown]
    told = await driver.engine.heartbeat(leases, MINUTE)
    assert told.lost == {ended.lease, retaken.lease, unknown}
    assert told.cancelled == {cancelled.lease}

    clock.advance(LEASE + SECOND)
    expired = {claim.lease for claim in await driver.engine.find_expired(limit=10)}
    assert expired == {Lease(retaken.task_id, 2)}, "only who was not in the heartbeat has expired"


async def test_a_heartbeat_of_nothing_is_nothing(engine: Engine) -> None:
    assert await engine.heartbeat([], MINUTE) == (set(), set())


async def test_a_heartbeat_of_many_leases(driver: Driver, clock: ManualClock) -> None:
    claims = await running(driver, 300)
    clock.advance(20 * SECOND)
    assert await driver.engine.heartbeat([claim.lease for claim in claims], LEASE) == (set(), set())
    clock.advance(20 * SECOND)
    assert await driver.engine.find_expired(limit=1000) == []


async def test_finding_the_expired_changes_nothing(driver: Driver, clock: ManualClock) -> None:
    [claim] = await running(driver, 1)
    clock.advance(MINUTE)
    assert await driver.engine.find_expired(limit=10) == [claim]
    assert await driver.engine.find_expired(limit=10) == [claim]
    assert (await driver.get(claim.task_id)).status is Status.RUNNING


async def test_the_expired_come_in_portions(driver: Driver, clock: ManualClock) -> None:
    claims = await running(driver, 5)
    clock.advance(MINUTE)
    portions = [await driver.reap(limit=2) for _ in range(4)]
    assert [len(portion) for portion in portions] == [2, 2, 1, 0]
    assert {claim.lease for portion in portions for claim in portion} == {claim.lease for claim in claims}


async def test_a_reaped_task_goes_on_and_uses_up_no_try(driver: Driver, clock: ManualClock) -> None:
    [claim] = await running(driver, 1)
    clock.advance(MINUTE)
    await driver.reap()
    task = await driver.get(claim.task_id)
    assert (task.status, task.tries_left, task.attempt) == (Status.PENDING, 1, 1)
    again = await driver.claim_one()
    assert (again.attempt, again.tries, again.crashes, again.interruptions) == (2, 0, 0, 1)
    first, second = await driver.engine.find_attempts(claim.task_id)
    assert (first.ending, first.finished_at, second.ending) == ("interrupted", clock.now(), None)


async def test_what_ended_or_waits_does_not_expire(driver: Driver, clock: ManualClock) -> None:
    done, cancelled, back = await running(driver, 3)
    await driver.finish(done, Succeeded(b"6"))
    await driver.finish(cancelled, Cancelled())
    await driver.finish(back, Interrupted())
    await driver.submit()
    clock.advance(timedelta(days=1))
    assert await driver.engine.find_expired(limit=10) == []


async def test_a_restart_cuts_off_every_running_attempt_at_once(
    driver: Driver, engine: Engine, make_engine, clock: ManualClock
) -> None:
    """Their worker is gone: in a store that is not shared, no lease has to expire first."""
    claims = await running(driver, 3)
    waiting = await driver.submit()
    await engine.close()

    again = Driver(await open_after_the_end(make_engine, clock), clock, worker="worker-2")
    expired = await again.engine.find_expired(limit=10)
    assert sorted(expired, key=lambda claim: claim.task_id) == sorted(claims, key=lambda claim: claim.task_id)
    assert {claim.worker for claim in expired} == {"worker-1"}
    assert (await again.get(waiting)).status is Status.PENDING

    assert len(await again.reap()) == 3
    retaken = await again.claim(10)
    assert {claim.lease for claim in retaken if claim.task_id != waiting} == {
        Lease(claim.task_id, 2) for claim in claims
    }
    assert all((claim.tries, claim.crashes) == (0, 0) for claim in retaken)


async def test_attempts_claimed_after_the_restart_are_not_cut_off(
    driver: Driver, engine: Engine, make_engine, clock: ManualClock
) -> None:
    await running(driver, 1)
    await driver.submit()
    await engine.close()
    again = Driver(await make_engine(), clock)
    fresh = await again.claim_one()
    assert fresh.task_id not in {claim.task_id for claim in await again.engine.find_expired(limit=10)}


async def test_a_long_task_outlives_six_ends_of_the_service(
    driver: Driver, engine: Engine, make_engine, clock: ManualClock
) -> None:
    """One try is enough: no end of the service uses it up; after MAX_INTERRUPTIONS it waits for a slot of its own."""
    task_id = await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=1)))
    for ends in range(6):
        claim = await driver.claim_one(suspects=1 if ends >= MAX_INTERRUPTIONS else 0)
        assert (claim.attempt, claim.tries, claim.interruptions) == (ends + 1, 0, ends)
        await driver.engine.close()
        driver = Driver(await open_after_the_end(make_engine, clock), clock)
        assert [cut.lease for cut in await driver.reap()] == [claim.lease]
    assert await driver.claim(10) == []
    assert await driver.finish(await driver.claim_one(suspects=1), Succeeded(b"6"))
    task = await driver.get(task_id)
    assert (task.status, task.attempt) == (Status.COMPLETED, 7)
    endings = [attempt.ending for attempt in await driver.engine.find_attempts(task_id)]
    assert endings == ["interrupted"] * 6 + ["succeeded"], "every extra run is explained"
