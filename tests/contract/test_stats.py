"""Statistics: sums of what happened, by minute and hour, and counts of open tasks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine, open_after_the_end
from tests.contract.engines import ENGINES
from tests.contract.twin import SECOND

from tasker.engines.protocol import Engine
from tasker.model import Claim, Extra, RetryPolicy
from tasker.model.archive import StoredTask
from tasker.model.queues import QueueChange
from tasker.model.stats import (
    BEFORE,
    HOUR,
    MINUTE,
    MOST_QUEUES,
    OTHER,
    WINDOWS,
    Figures,
    Span,
    StatsFilter,
    StatsRow,
    run_bucket,
    sum_up,
    wait_bucket,
)
from tasker.rules.lifecycle import (
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    TimedOut,
    decide,
    problem,
)
from tasker.testing import Driver, ManualClock, make_draft

AGAIN = Failed(problem("task-failed", "again", retryable=True))
ONE_MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


async def rows(engine: Engine, clock: ManualClock, span: Span = WINDOWS["1h"], **where: Any) -> list[StatsRow]:
    found = await engine.stats.window(StatsFilter(span=span, now=clock.now(), **where))
    return sorted(found, key=lambda row: (row.step, row.name))


async def happened(engine: Engine, clock: ManualClock, **where: Any) -> Figures:
    """Return everything of the last hour, and check that folding changes nothing."""
    found = await rows(engine, clock, **where)
    while await engine.stats.fold(limit=1):
        assert await rows(engine, clock, **where) == found
    return sum_up([row.figures for row in found if row.step != BEFORE])


def counts(figures: Figures) -> dict[str, int]:
    return {
        name: number for name, number in structs.asdict(figures).items() if number and name not in ("runs", "waits")
    }


async def numbers(engine: Engine, owner: str | None = None) -> list[tuple[str, str, int, int, int]]:
    found = await engine.stats.open_counts(owner)
    return [(one.queue, one.type, one.pending, one.scheduled, one.running) for one in found]


async def started(driver: Driver, clock: ManualClock, **more: Any) -> Claim:
    draft = make_draft(clock.now(), **more)
    await driver.submit(draft)
    return await driver.claim_one(types=(draft.type,))


@pytest.mark.parametrize(
    ("outcome", "ended", "runs"),
    [
        (Succeeded(b"6"), {"completed": 1}, True),
        (Failed(problem("task-failed", "no")), {"failed": 1}, True),
        (Cancelled(), {"cancelled": 1}, True),
        (AGAIN, {"retried": 1}, True),
        (TimedOut(SECOND), {"retried": 1}, True),
        (Snoozed(SECOND), {}, True),
        (Released(), {}, True),
        (Interrupted(), {}, False),
    ],
    ids=lambda given: type(given).__name__,
)
async def test_an_end_is_counted_with_its_times(
    driver: Driver, engine: Engine, clock: ManualClock, outcome: Outcome, ended: dict[str, int], runs: bool
) -> None:
    await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=5)))
    clock.advance(timedelta(seconds=3))
    claim = await driver.claim_one(types=("sum",))
    clock.advance(timedelta(seconds=2.5))
    assert await driver.finish(claim, outcome)
    figures = await happened(engine, clock)
    run_time = {"run_time": 2_500_000} if runs else {}
    assert counts(figures) == {"submitted": 1, "started": 1, "wait_time": 3_000_000, **ended, **run_time}
    assert [place for place, number in enumerate(figures.runs) if number] == [run_bucket(2_500_000)] * runs
    assert [place for place, number in enumerate(figures.waits) if number] == [wait_bucket(3_000_000)]


async def test_tasks_that_end_without_an_attempt_are_counted(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    """Cancelled, past a deadline, replaced, and failed with their dependency: before and after they were submitted."""
    await engine.cancel(await driver.submit())
    await driver.submit(make_draft(clock.now(), deadline=clock.now() + SECOND, delay=ONE_MINUTE))
    await driver.submit(make_draft(clock.now(), unique_key="u"))
    await driver.submit(make_draft(clock.now(), unique_key="u", on_conflict="replace"))
    parent = await driver.submit(make_draft(clock.now(), delay=ONE_MINUTE))
    await driver.submit(make_draft(clock.now(), extra=Extra(depends_on=(parent,))))
    await engine.cancel(parent)
    await driver.submit(make_draft(clock.now(), extra=Extra(depends_on=(parent,))))
    clock.advance(2 * SECOND)
    assert await engine.fail_overdue(limit=10) == 1
    assert counts(await happened(engine, clock)) == {"submitted": 7, "cancelled": 3, "failed": 3}
    assert await numbers(engine) == [("default", "sum", 1, 0, 0)]


async def test_a_retry_by_hand_is_counted_and_opens_the_task(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    task_id = await driver.submit()
    await engine.cancel(task_id)
    await engine.retry(task_id)
    assert counts(await happened(engine, clock)) == {"submitted": 1, "cancelled": 1, "retried": 1}
    assert await numbers(engine) == [("default", "sum", 1, 0, 0)]
    await engine.cancel(task_id)
    await engine.delete(task_id)
    assert await numbers(engine) == []
    assert counts(await happened(engine, clock))["cancelled"] == 2, "sums outlive the tasks"


async def test_a_replayed_submission_counts_once(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    draft = make_draft(clock.now(), unique_key="u")
    await engine.submit([draft, structs.replace(draft, on_conflict="return")])
    assert counts(await happened(engine, clock)) == {"submitted": 1}


async def test_tasks_that_wait_are_counted_apart_until_they_are_due(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    parent = await driver.submit(make_draft(clock.now(), type="gpt"))
    await driver.submit(make_draft(clock.now(), delay=ONE_MINUTE))
    await driver.submit(make_draft(clock.now(), extra=Extra(depends_on=(parent,))))
    both = make_draft(clock.now(), extra=Extra(depends_on=(parent,)), delay=2 * ONE_MINUTE)
    await driver.submit(both)
    assert await numbers(engine) == [("default", "gpt", 1, 0, 0), ("default", "sum", 0, 3, 0)]
    await driver.finish(await driver.claim_one(types=("gpt",)), Succeeded(b"1"))
    assert await numbers(engine) == [("default", "sum", 1, 2, 0)]
    due_at = clock.now() + ONE_MINUTE
    clock.advance(ONE_MINUTE)
    assert await numbers(engine) == [("default", "sum", 2, 1, 0)]
    clock.advance(ONE_MINUTE)
    while await engine.stats.fold(limit=100):
        pass
    assert await numbers(engine) == [("default", "sum", 3, 0, 0)]
    await driver.claim_one(types=("sum",))
    [line] = await engine.stats.open_counts()
    assert (line.pending, line.scheduled, line.running, line.oldest_due_at) == (2, 0, 1, due_at)
    await driver.claim(2)
    assert await numbers(engine) == [("default", "sum", 0, 0, 3)]
    await engine.cancel(both.task_id)
    assert await numbers(engine) == [("default", "sum", 0, 0, 3)], "it still runs"


async def test_snoozed_and_retried_tasks_wait(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await started(driver, clock)
    await driver.finish(claim, Snoozed(ONE_MINUTE))
    assert await numbers(engine) == [("default", "sum", 0, 1, 0)]
    clock.advance(ONE_MINUTE)
    assert await numbers(engine) == [("default", "sum", 1, 0, 0)]
    await driver.finish(await driver.claim_one(), Released())
    assert await numbers(engine) == [("default", "sum", 1, 0, 0)]
    await engine.cancel(claim.task_id)
    assert await numbers(engine) == []


async def test_parked_tasks_are_due(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    """Also those that had waited for a time before."""
    await engine.queues.change("default", QueueChange(concurrency_per_key=1))
    first = clock.now()
    for delay in (None, None, ONE_MINUTE):
        await driver.submit(make_draft(clock.now(), concurrency_key="k", delay=delay))
    clock.advance(ONE_MINUTE)
    [claim] = await driver.claim(5)
    assert await numbers(engine) == [("default", "sum", 2, 0, 1)]
    [line] = await engine.stats.open_counts()
    assert line.oldest_due_at == first
    await driver.finish(claim, Succeeded(b"1"))
    for _ in range(2):
        [claim] = await driver.claim(5)
        await driver.finish(claim, Succeeded(b"1"))
    assert await numbers(engine) == []


async def test_sums_are_kept_by_minute_and_hour_owner_type_and_queue(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    clock.set(clock.now().replace(minute=0, second=0, microsecond=0))
    for minutes, owner, type_, queue in ((0, "ada", "sum", "a"), (1, "eve", "sum", "b"), (119, "ada", "gpt", "a")):
        clock.set(clock.now().replace(minute=0) + timedelta(minutes=minutes))
        await driver.submit(structs.replace(make_draft(clock.now(), type=type_, queue=queue), owner=owner))
    for _ in range(2):
        by_type = await rows(engine, clock, WINDOWS["1h"], group="type")
        assert [(row.step, row.name, row.figures.submitted) for row in by_type] == [(BEFORE, "sum", 2), (59, "gpt", 1)]
        by_queue = await rows(engine, clock, WINDOWS["24h"], group="queue")
        assert [(row.step, row.name, row.figures.submitted) for row in by_queue] == [
            (22, "a", 1), (22, "b", 1), (23, "a", 1),
        ]  # fmt: skip
        own = await rows(engine, clock, WINDOWS["24h"], owner="ada", type="sum")
        assert [(row.step, row.name, row.figures.submitted) for row in own] == [(22, "", 1)]
        assert await rows(engine, clock, WINDOWS["7d"], queue="a", owner="eve") == []
        await engine.stats.fold(limit=100)


async def test_many_queues_of_an_hour_are_other(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    names = [f"q{number:03}" for number in range(MOST_QUEUES + 3)]
    await engine.submit([make_draft(clock.now(), queue=name) for name in names[:150]])
    await engine.stats.fold(limit=100)
    await engine.submit([make_draft(clock.now(), queue=name) for name in names[100:]])
    while await engine.stats.fold(limit=100):
        pass
    found = {row.name: row.figures.submitted for row in await rows(engine, clock, group="queue")}
    assert len(found) == MOST_QUEUES + 1
    assert found[OTHER] == 3
    assert sum(found.values()) == MOST_QUEUES + 53


async def test_sums_are_pruned_after_their_time(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    while await engine.stats.fold(limit=100):
        pass
    seen: list[tuple[int, int]] = []
    for days in (1, 2, 90):
        clock.advance(days * DAY)
        while await engine.stats.prune(limit=1):
            pass
        spans = Span(1, 1 << 40, MINUTE), Span(1, 1 << 40, HOUR)
        minutes, hours = [sum_up([row.figures for row in await rows(engine, clock, span)]) for span in spans]
        seen.append((minutes.submitted, hours.submitted))
    assert seen == [(1, 1), (0, 1), (0, 0)]


async def test_all_of_it_is_durable(make_engine: MakeEngine, clock: ManualClock) -> None:
    engine = await make_engine()
    driver = Driver(engine, clock)
    claim = await started(driver, clock)
    await driver.submit()
    before = await rows(engine, clock)
    if not engine.is_shared:
        await engine.close()
    again = await open_after_the_end(make_engine, clock, timedelta(0))
    assert await rows(again, clock) == before
    assert await numbers(again) == [("default", "sum", 1, 0, 1)]
    await again.complete(claim.lease, decide(Succeeded(b"1"), claim, clock.now(), Random(0)))
    assert await numbers(again) == [("default", "sum", 1, 0, 0)]


@pytest.mark.parametrize("name", sorted(ENGINES))
async def test_an_import_counts_its_open_tasks_and_nothing_else(name: str, tmp_path: Path, clock: ManualClock) -> None:
    async with ENGINES[name](tmp_path / "one", clock) as one, ENGINES[name](tmp_path / "two", clock) as two:
        driver = Driver(one, clock)
        await driver.finish(await started(driver, clock), Succeeded(b"1"))
        for delay in (None, ONE_MINUTE):
            await driver.submit(make_draft(clock.now(), delay=delay))
        async for found in one.archive.read(at_once=100, size=1 << 20):
            tasks = [record for record in found if isinstance(record, StoredTask)]
            assert await two.archive.put(tasks, rehearsal=True) == await two.archive.put(tasks)
        assert await numbers(two) == await numbers(one) == [("default", "sum", 1, 1, 0)]
        assert counts(await happened(two, clock)) == {}
