"""Usage is counted in the transaction that stores it: once, for the current attempt, and for good."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine, open_after_the_end

from tasker.engines.protocol import Engine
from tasker.model import Claim, Report, RetryPolicy
from tasker.model.usage import NANOS, UsageFilter, UsageRow
from tasker.rules.lifecycle import (
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    TimedOut,
    problem,
)
from tasker.testing import START, Driver, ManualClock, make_draft

TODAY = START.date()
EVER = UsageFilter(first=date(1971, 1, 1), last=date(9999, 12, 31))
SECOND = timedelta(seconds=1)
AGAIN = Failed(problem("task-failed", "again", retryable=True))


async def used(engine: Engine, where: UsageFilter = EVER) -> UsageRow:
    """Return everything in one row."""
    rows = await engine.usage.find_many(where, group=(), limit=10)
    return rows[0] if rows else UsageRow(day=None, owner=None, type=None)


async def started(driver: Driver, clock: ManualClock, owner: str = "", **more: object) -> Claim:
    draft = make_draft(clock.now(), **more)  # type: ignore[arg-type]
    await driver.submit(structs.replace(draft, owner=owner))
    return await driver.claim_one(types=(draft.type,))


def report(usage: bytes) -> Report:
    return Report(usage=usage)


@pytest.mark.parametrize(
    ("outcome", "counts", "runs"),
    [
        (Succeeded(b"6"), {"completed": 1}, True),
        (Failed(problem("task-failed", "no")), {"failed": 1}, True),
        (Cancelled(), {"cancelled": 1}, True),
        (AGAIN, {}, True),
        (TimedOut(SECOND), {}, True),
        (Snoozed(SECOND), {}, True),
        (Released(), {}, True),
        (Interrupted(), {}, False),
    ],
    ids=lambda given: type(given).__name__,
)
async def test_an_end_is_counted(
    driver: Driver, clock: ManualClock, outcome: Outcome, counts: dict[str, int], runs: bool
) -> None:
    claim = await started(driver, clock, retry=RetryPolicy(max_attempts=5))
    clock.advance(timedelta(seconds=2.5))
    assert await driver.finish(claim, outcome)
    run_time = 2_500_000 if runs else 0
    assert await used(driver.engine) == UsageRow(
        day=None, owner=None, type=None, attempts=1, run_time=run_time, **counts
    )  # fmt: skip


async def test_a_task_that_never_ran_used_nothing(driver: Driver, engine: Engine) -> None:
    await engine.cancel(await driver.submit())
    assert (await used(engine)).attempts == 0


async def test_usage_is_counted_as_soon_as_it_is_reported(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    """A task that never ends has still cost something."""
    claim = await started(driver, clock)
    assert await engine.record(claim.lease, report(b'{"input_tokens":7,"output_tokens":1,"cost":0.000000003}'))
    assert structs.astuple(await used(engine))[3:] == (0, 0, 0, 0, 0, 7, 1, 0, 3)
    assert await engine.record(claim.lease, report(b'{"input_tokens":7,"output_tokens":9,"cost":0.5}'))
    assert await engine.record(claim.lease, report(b'{"input_tokens":7,"output_tokens":9,"cost":0.5}'))
    assert await driver.finish(claim, Succeeded(b"6"), report(b'{"input_tokens":7,"output_tokens":8,"cost":0.75}'))
    row = await used(engine)
    assert (row.input_tokens, row.output_tokens, row.cost, row.attempts) == (7, 8, 750_000_000, 1)


async def test_the_next_attempt_knows_what_was_used(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await started(driver, clock, owner="me", retry=RetryPolicy(max_attempts=5, initial=timedelta(0)))
    assert (claim.usage, claim.owner) == (b"{}", "me")
    assert await driver.finish(claim, AGAIN, report(b'{"input_tokens":7,"cost":0.5}'))
    claim = await driver.claim_one()
    assert (claim.usage, claim.owner) == (b'{"input_tokens":7,"cost":0.5}', "me")
    assert await driver.finish(claim, Succeeded(b"6"), report(b'{"input_tokens":14,"cost":1.0}'))
    row = await used(engine)
    assert (row.attempts, row.completed, row.input_tokens, row.cost) == (2, 1, 14, NANOS)


async def test_a_task_taken_at_once_is_counted_for_its_owner(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    waiting = asyncio.create_task(driver.claim(wait_for=SECOND))
    await asyncio.sleep(0)
    await driver.submit(structs.replace(make_draft(clock.now()), owner="me"))
    [claim] = await waiting
    assert claim.owner == "me"
    assert await driver.finish(claim, Succeeded(b"6"))
    assert (await used(engine, structs.replace(EVER, owner="me"))).attempts == 1


async def test_by_day_owner_and_type(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    for owner, type_, cost in (("b", "gpt", b"1"), ("a", "gpt", b"2"), ("a", "sum", b"0"), ("", "sum", b"0")):
        claim = await started(driver, clock, owner, type=type_)
        await driver.finish(claim, Succeeded(b"6"), report(b'{"cost":%b}' % cost))
    clock.advance(timedelta(days=1))
    await driver.finish(await started(driver, clock, "a", type="gpt"), Succeeded(b"6"), report(b'{"cost":4}'))
    next_day = TODAY + timedelta(days=1)
    rows = await engine.usage.find_many(EVER, group=("day", "owner", "type"), limit=10)
    assert [(row.day, row.owner, row.type, row.attempts, row.cost // NANOS) for row in rows] == [
        (TODAY, "", "sum", 1, 0), (TODAY, "a", "gpt", 1, 2), (TODAY, "a", "sum", 1, 0), (TODAY, "b", "gpt", 1, 1),
        (next_day, "a", "gpt", 1, 4),
    ]  # fmt: skip
    assert [row.owner for row in await engine.usage.find_many(EVER, group=("owner",), limit=2)] == ["", "a"]
    by_type = await engine.usage.find_many(structs.replace(EVER, owner="a"), group=("type",), limit=10)
    assert [(row.day, row.owner, row.type, row.cost // NANOS) for row in by_type] == [
        (None, None, "gpt", 6), (None, None, "sum", 0),
    ]  # fmt: skip
    only = UsageFilter(first=next_day, last=next_day, type="gpt")
    assert (await used(engine, only)).cost == 4 * NANOS
    assert [await engine.usage.spent_today(owner) for owner in ("a", "b", "")] == [4 * NANOS, 0, 0]


async def test_it_outlives_the_task_and_the_process(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    claim = await started(driver, clock)
    await driver.finish(claim, Succeeded(b"6"), report(b'{"cost":1}'))
    before = await used(engine)
    await engine.delete(claim.task_id)
    assert await used(engine) == before
    await engine.close()
    later = await open_after_the_end(make_engine, clock)
    assert await used(later) == before


async def test_usage_reported_before_the_service_ends_counts(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    claim = await started(driver, clock, retry=RetryPolicy(max_attempts=2))
    await engine.record(claim.lease, report(b'{"cost":1}'))
    await engine.close()
    later = await open_after_the_end(make_engine, clock)
    driver = Driver(later, clock)
    await driver.reap()
    claim = await driver.claim_one()
    assert claim.usage == b'{"cost":1}'
    row = await used(later)
    assert (row.attempts, row.run_time, row.cost) == (1, 0, NANOS)


async def test_merging_past_days_changes_no_sum(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    drivers = [driver]
    if engine.is_shared:  # each process counts in rows of its own
        other = await make_engine()
        drivers.append(Driver(other, clock))
    for _ in range(2):
        for one in drivers:
            for owner in ("a", "b"):
                await one.finish(await started(one, clock, owner), Succeeded(b"6"), report(b'{"cost":1}'))
        clock.advance(timedelta(days=1))
    before = await engine.usage.find_many(EVER, group=("day", "owner", "type"), limit=10)
    assert [row.attempts for row in before] == [len(drivers)] * 4
    for limit in (1, 2, 500, 500):
        await engine.prune(limit=limit)
        assert await engine.usage.find_many(EVER, group=("day", "owner", "type"), limit=10) == before


@pytest.mark.parametrize("usage", [b"[]", b'{"cost":true}', b'{"cost":-1}', b'{"cost":"1"}', b'{"input_tokens":null}'])
async def test_senseless_numbers_count_as_nothing(
    driver: Driver, engine: Engine, clock: ManualClock, usage: bytes
) -> None:
    claim = await started(driver, clock)
    assert await engine.record(claim.lease, report(usage))
    assert structs.astuple(await used(engine))[3:] == (0,) * 9


async def test_absurd_numbers_are_kept_within_bounds(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await started(driver, clock)
    assert await engine.record(claim.lease, report(b'{"input_tokens":1e300,"cost":1e300}'))
    row = await used(engine)
    assert (row.input_tokens, row.cost) == (10**9, 10_000 * NANOS)
