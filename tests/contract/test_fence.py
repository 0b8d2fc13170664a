"""Every write of an attempt carries its lease: a stale one is refused and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from uuid import UUID

import pytest
from msgspec import structs

from tasker.engines.protocol import Engine
from tasker.model import Claim, Lease, NewEvent, Progress, Report, RetryPolicy, Status, new_task_id
from tasker.model.usage import GROUPS, UsageFilter
from tasker.rules.lifecycle import Cancelled, Failed, Interrupted, Outcome, Released, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

MINUTE = timedelta(minutes=1)
EVER = UsageFilter(first=date(1971, 1, 1), last=date(9999, 12, 31))
OUTCOMES: list[Outcome] = [
    Succeeded(b'"stale"'),
    Failed(problem("task-failed", "stale")),
    Failed(problem("task-failed", "stale", retryable=True)),
    Snoozed(MINUTE),
    Cancelled(),
    Interrupted(),
    Released(),
]


async def everything(engine: Engine, task_id: UUID) -> tuple:
    """Everything that the engine returns about a task, to compare before and after a write that must change nothing."""
    return (
        await engine.find(task_id),
        await engine.find_attempts(task_id),
        await engine.find_events(task_id),
        await engine.find_expired(limit=10),
        await engine.stats.open_counts(),
        await engine.usage.find_many(EVER, group=GROUPS, limit=10),
    )


def stale_report(clock: ManualClock) -> Report:
    event = NewEvent(type="output", time=clock.now(), data=b'{"chunk":"stale"}')
    return Report(events=(event,), progress=Progress(fraction=0.99), usage=b'{"stale":true,"output_tokens":5,"cost":1}')


async def assert_refused(driver: Driver, clock: ManualClock, lease: Lease, claim: Claim) -> None:
    """Try every write with `lease` and check that nothing has changed."""
    engine = driver.engine
    before = await everything(engine, lease.task_id)
    stale = structs.replace(claim, task_id=lease.task_id, attempt=lease.attempt)
    for outcome in OUTCOMES:
        assert not await driver.finish(stale, outcome), f"a stale {outcome} was taken"
        assert not await driver.finish(stale, outcome, stale_report(clock)), f"a stale {outcome} and report were taken"
        assert await everything(engine, lease.task_id) == before, f"a stale {outcome} changed something"
    assert not await engine.record(lease, stale_report(clock)), "a stale report was taken"
    assert await everything(engine, lease.task_id) == before, "a stale report changed something"
    told = await engine.heartbeat([lease], 10 * MINUTE)
    assert told.lost == {lease}, "a stale heartbeat was taken"
    assert told.cancelled == set(), "who has lost a lease is told that, and of no cancel"
    assert await everything(engine, lease.task_id) == before, "a stale heartbeat changed something"


async def overtaken(driver: Driver, clock: ManualClock) -> tuple[Claim, Claim]:
    """Return the claim of a worker that went silent, and that of the worker that took over."""
    await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=5)))
    silent = await driver.claim_one()
    clock.advance(MINUTE)
    assert [claim.lease for claim in await driver.reap()] == [silent.lease]
    return silent, await driver.claim_one()


async def test_an_overtaken_attempt_changes_nothing_while_the_next_one_runs(driver: Driver, clock: ManualClock) -> None:
    """The case that a check of the status alone misses: the task is running, but not this attempt."""
    silent, current = await overtaken(driver, clock)
    assert (silent.attempt, current.attempt) == (1, 2)
    await assert_refused(driver, clock, silent.lease, silent)
    assert await driver.finish(current, Succeeded(b"6"))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
@pytest.mark.parametrize("says", [False, True])
async def test_an_overtaken_attempt_changes_nothing_while_the_current_one_reports(
    driver: Driver, clock: ManualClock, outcome: Outcome, says: bool
) -> None:
    """One worker may have lost a task and claimed it again: both of its attempts write in the same moment."""
    silent, current = await overtaken(driver, clock)
    output = NewEvent(type="output", time=clock.now(), data=b'{"chunk":"mine"}')
    written = await asyncio.gather(
        driver.engine.record(current.lease, Report(events=(output,))),
        driver.finish(silent, outcome, stale_report(clock) if says else None),
        driver.engine.record(silent.lease, stale_report(clock)),
    )
    assert written == [True, False, False]
    task = await driver.get(silent.task_id)
    assert (task.status, task.attempt, task.progress) == (Status.RUNNING, 2, None)
    events = await driver.engine.find_events(silent.task_id)
    assert [(event.type, event.attempt) for event in events if event.attempt == 2] == [("started", 2), ("output", 2)]
    assert b"stale" not in b"".join(bytes(event.data) for event in events)
    assert await driver.finish(current, Succeeded(b"6"))


async def assert_not_kept_alive(driver: Driver, clock: ManualClock, silent: Claim, current: Claim) -> None:
    """Check that the heartbeat of an overtaken attempt leaves the current lease as it is."""
    await driver.engine.heartbeat([silent.lease], 10 * MINUTE)
    clock.advance(MINUTE)
    expired = [claim.lease for claim in await driver.engine.find_expired(limit=10)]
    assert expired == [current.lease], "a stale heartbeat has kept the lease of another attempt"


async def test_an_overtaken_attempt_does_not_keep_the_next_ones_lease(driver: Driver, clock: ManualClock) -> None:
    await assert_not_kept_alive(driver, clock, *await overtaken(driver, clock))


async def test_an_overtaken_attempt_changes_nothing_after_the_next_one_ended(
    driver: Driver, clock: ManualClock
) -> None:
    silent, current = await overtaken(driver, clock)
    assert await driver.finish(current, Succeeded(b"6"))
    await assert_refused(driver, clock, silent.lease, silent)
    task = await driver.get(current.task_id)
    assert (task.status, bytes(task.result or b"")) == (Status.COMPLETED, b"6")


async def test_a_reaped_attempt_changes_nothing_while_its_task_waits(driver: Driver, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    clock.advance(MINUTE)
    await driver.reap()
    await assert_refused(driver, clock, claim.lease, claim)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
async def test_an_attempt_ends_once(driver: Driver, clock: ManualClock, outcome: Outcome) -> None:
    await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=5)))
    claim = await driver.claim_one()
    assert await driver.finish(claim, outcome)
    await assert_refused(driver, clock, claim.lease, claim)


async def test_an_attempt_number_that_was_never_given_is_refused(driver: Driver, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    for attempt in (-1, 0, 2, 1_000_000):
        await assert_refused(driver, clock, Lease(claim.task_id, attempt), claim)


async def test_a_lease_of_an_unknown_or_deleted_task_is_refused(driver: Driver, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await assert_refused(driver, clock, Lease(new_task_id(clock.now()), 1), claim)
    assert await driver.finish(claim, Succeeded(b"6"))
    await driver.engine.delete(claim.task_id)
    await assert_refused(driver, clock, claim.lease, claim)


async def test_the_lease_of_another_task_is_refused(driver: Driver, clock: ManualClock) -> None:
    """Both tasks run their first attempt: the number alone does not make a lease."""
    other = await driver.submit()
    await driver.submit()
    _, claim = await driver.claim(2)
    await driver.engine.cancel(other)
    assert await driver.finish(claim, Succeeded(b"6"))
    assert (await driver.get(other)).status is Status.RUNNING


async def test_a_task_that_waits_has_no_lease(driver: Driver, clock: ManualClock) -> None:
    """Attempt 0 does not exist, and the next number belongs to no attempt before its claim."""
    task_id = await driver.submit()
    ran = await _claim_of_another(driver, clock)
    for attempt in (0, 1):
        await assert_refused(driver, clock, Lease(task_id, attempt), ran)


async def _claim_of_another(driver: Driver, clock: ManualClock) -> Claim:
    await driver.submit(make_draft(clock.now(), type="other"))
    return await driver.claim_one(types=["other"])


@pytest.mark.parametrize("again", ["retry", "snooze", "release", "interrupt", "retry by a client"])
async def test_attempt_numbers_are_never_used_again(
    driver: Driver, engine: Engine, make_engine, clock: ManualClock, again: str
) -> None:
    """Whatever makes a task pending again, and through restarts, its attempt numbers continue."""
    outcomes: dict[str, Callable[[], Outcome]] = {
        "retry": lambda: Failed(problem("task-failed", "again", retryable=True)),
        "snooze": lambda: Snoozed(timedelta(0)),
        "release": Released,
        "interrupt": Interrupted,
        "retry by a client": lambda: Failed(problem("task-failed", "for good")),
    }
    policy = RetryPolicy(max_attempts=10, initial=timedelta(0))
    task_id = await driver.submit(make_draft(clock.now(), retry=policy))
    for number in (1, 2, 3, 4):
        [claim] = await driver.claim() or await driver.claim(0, suspects=1)
        assert claim.lease == Lease(task_id, number)
        assert await driver.finish(claim, outcomes[again]())
        if again == "retry by a client":
            await driver.engine.retry(task_id)
        await driver.engine.close()
        driver = Driver(await make_engine(), clock)
    assert [attempt.attempt for attempt in await driver.engine.find_attempts(task_id)] == [1, 2, 3, 4]


async def test_of_two_ends_at_the_same_time_one_wins(driver: Driver, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    ends: list[Awaitable[bool]] = [driver.finish(claim, Succeeded(b"%d" % number)) for number in range(10)]
    won = await asyncio.gather(*ends)
    assert sorted(won) == [False] * 9 + [True]
    task = await driver.get(claim.task_id)
    assert bytes(task.result or b"") == b"%d" % won.index(True), "the stored result is the winner's"


async def test_an_attempt_past_its_lease_may_still_end_if_not_taken_over(driver: Driver, clock: ManualClock) -> None:
    """It is still the current one: its work is not thrown away."""
    await driver.submit()
    claim = await driver.claim_one()
    clock.advance(MINUTE)
    assert await driver.finish(claim, Succeeded(b"6"))
    assert await driver.reap() == []
